"""From an int8 .tflite model to readable C with the bits of TensorFlow Lite for Microcontrollers, or of LiteRT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.artifact_builder.codegen import c_source
from services.artifact_builder.codegen.errors import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.features import features
from services.artifact_builder.codegen.graph import ElementType, Tensor
from services.artifact_builder.codegen.packing import Packing
from services.artifact_builder.codegen.program import Program, compose, interface_offsets
from services.artifact_builder.codegen.reader import read_graph
from shared.events.lab import Numerics
from shared.releases.release import Quantisation

__all__ = [
    "GeneratedModel",
    "MalformedModelError",
    "ModelTensor",
    "UnsupportedModelError",
    "generate",
]


@dataclass(frozen=True, slots=True)
class ModelTensor:
    """An input or an output of a model."""

    name: str
    type: ElementType
    shape: tuple[int, ...]
    offset_bytes: int
    """From model_input() or model_output() on."""
    size_bytes: int
    quantisation: Quantisation | None
    """None for numbers that stand for themselves: float32, and int32 indices."""


@dataclass(frozen=True, slots=True)
class GeneratedModel:
    """A model as C sources, and what it needs."""

    sources: Mapping[str, str]
    """File name to text: model.h, model.c, weights.h, weights.c, numerics.h, edgeloop_features.h."""
    numerics: Numerics
    """Whose bits the sources give."""
    arena_bytes: int
    """Planned activation memory."""
    weights_bytes: int
    """Constant arrays: weights, biases, multipliers or scales, tables."""
    input_bytes: int
    """All inputs, one after the other."""
    output_bytes: int
    input: Quantisation
    """Of the first input; scale 1 and zero point 0 where it has none."""
    output: Quantisation
    macs: int
    """Multiply-accumulates of one inference, in layers with weights."""
    layers: int
    """Functions that are called; operators that only give bytes another shape are none."""
    inputs: tuple[ModelTensor, ...] = ()
    outputs: tuple[ModelTensor, ...] = ()
    state_bytes: int = 0
    """What is kept between inferences, outside the arena."""
    operators: tuple[str, ...] = ()
    """Names of the operators that run, each once, in alphabetical order."""


def generate(tflite: bytes, numerics: Numerics = Numerics.TFLM) -> GeneratedModel:
    """Generate C for a fully int8-quantised model, with the bits of one family (docs/adr/0009-two-numerics.md).

    Raises:
        MalformedModelError: the bytes are not a whole model.
        UnsupportedModelError: the kernels lack something; the message names the operator and the tensor.
    """
    program = compose(read_graph(tflite), numerics)
    asked = features(program.layers)
    program = program.with_layers(Packing.of(program.layers).pack)
    names = c_source.step_names(program.steps)
    constants = c_source.Constants()
    source = c_source.model_source(program, names, constants)
    inputs, outputs = _ends(program.inputs), _ends(program.outputs)
    state_bytes = sum(variable.tensor.size_bytes for variable in program.variables)
    return GeneratedModel(
        sources={
            "model.h": c_source.model_header(program, _facts(program, inputs, outputs, state_bytes)),
            "model.c": source,
            "weights.h": c_source.weights_header(constants),
            "weights.c": c_source.weights_source(constants),
            "edgeloop_features.h": c_source.features_header(asked),
            "numerics.h": c_source.numerics_header(numerics),
        },
        numerics=numerics,
        arena_bytes=program.arena_bytes,
        weights_bytes=constants.size_bytes,
        input_bytes=_size_bytes(inputs),
        output_bytes=_size_bytes(outputs),
        input=_first_quantisation(inputs),
        output=_first_quantisation(outputs),
        macs=sum(layer.macs for layer in program.layers),
        layers=len(program.steps),
        inputs=inputs,
        outputs=outputs,
        state_bytes=state_bytes,
        operators=tuple(sorted({step.operator.name for step in program.steps})),
    )


def _ends(tensors: Sequence[Tensor]) -> tuple[ModelTensor, ...]:
    return tuple(
        ModelTensor(
            name=tensor.name,
            type=tensor.type,
            shape=tensor.shape,
            offset_bytes=offset,
            size_bytes=tensor.size_bytes,
            quantisation=Quantisation(scale=tensor.scale, zero_point=tensor.zero_point)
            if len(tensor.scales) == 1 and tensor.type is ElementType.INT8
            else None,
        )
        for tensor, offset in zip(tensors, interface_offsets(tensors), strict=True)
    )


def _size_bytes(ends: Sequence[ModelTensor]) -> int:
    return ends[-1].offset_bytes + ends[-1].size_bytes


def _first_quantisation(ends: Sequence[ModelTensor]) -> Quantisation:
    return ends[0].quantisation or Quantisation(scale=1.0, zero_point=0)


def _facts(
    program: Program, inputs: Sequence[ModelTensor], outputs: Sequence[ModelTensor], state_bytes: int
) -> dict[str, str]:
    entry, leave = _first_quantisation(inputs), _first_quantisation(outputs)
    info: dict[str, object] = {
        "input_bytes": _size_bytes(inputs),
        "output_bytes": _size_bytes(outputs),
        "input_scale": repr(entry.scale),
        "input_zero_point": entry.zero_point,
        "output_scale": repr(leave.scale),
        "output_zero_point": leave.zero_point,
        "arena_bytes": program.arena_bytes,
    }
    for what, ends in (("inputs", inputs), ("outputs", outputs)):
        if len(ends) > 1 or ends[0].type is not ElementType.INT8:
            info[what] = ",".join(f"{end.type}@{end.offset_bytes}" for end in ends)
    if state_bytes:
        info["state_bytes"] = state_bytes
    return {
        "MODEL_ARENA_BYTES": str(program.arena_bytes),
        "MODEL_STATE_BYTES": str(state_bytes),
        "MODEL_INPUT_BYTES": f"{_size_bytes(inputs)}u",
        "MODEL_OUTPUT_BYTES": f"{_size_bytes(outputs)}u",
        "MODEL_OUTPUT_ELEMENTS": f"{sum(tensor.size for tensor in program.outputs)}u",
        "MODEL_INFO": '"' + " ".join(f"{key}={value}" for key, value in info.items()) + '"',
    }
