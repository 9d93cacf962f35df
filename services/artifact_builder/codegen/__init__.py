"""From an int8 .tflite model to readable C that gives the bits of TensorFlow Lite for Microcontrollers."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.artifact_builder.codegen import c_source
from services.artifact_builder.codegen.errors import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.graph import Graph, Operator, Tensor
from services.artifact_builder.codegen.layers import Layer
from services.artifact_builder.codegen.lowering import ALIASES, lower, require_kernel
from services.artifact_builder.codegen.planner import Lifetime, Plan, plan_arena
from services.artifact_builder.codegen.quantisation import activation_tensor
from services.artifact_builder.codegen.reader import read_graph
from shared.releases.release import Quantisation

__all__ = ["GeneratedModel", "MalformedModelError", "UnsupportedModelError", "generate", "require_supported"]


@dataclass(frozen=True, slots=True)
class GeneratedModel:
    """A model as C sources, and what it needs."""

    sources: Mapping[str, str]
    """File name to text: model.h, model.c, weights.h, weights.c."""
    arena_bytes: int
    """Planned activation memory."""
    weights_bytes: int
    """Constant arrays: weights, biases, multipliers, tables."""
    input_bytes: int
    output_bytes: int
    input: Quantisation
    output: Quantisation
    macs: int
    """Multiply-accumulates of one inference, in layers with weights."""
    layers: int


def require_supported(tflite: bytes) -> None:
    """Check the operators alone, which a model that is not quantised has too.

    Raises:
        MalformedModelError: the bytes are not a whole model.
        UnsupportedModelError: there is no kernel for one of them; the message names it and its tensor.
    """
    for operator in read_graph(tflite).operators:
        require_kernel(operator)


def generate(tflite: bytes) -> GeneratedModel:
    """Generate C for a fully int8-quantised model.

    Raises:
        MalformedModelError: the bytes are not a whole model.
        UnsupportedModelError: the kernels lack something; the message names the operator and the tensor.
    """
    graph = read_graph(tflite)
    layers, roots = _lower_all(graph)
    source, result = _root(roots, graph.input), _root(roots, graph.output)
    plan, order = _plan(layers, source, result)
    offsets = dict(zip(order, plan.offsets, strict=True))
    names = c_source.layer_names(layers)
    arrays = list(c_source.constants(layers, names))
    return GeneratedModel(
        sources={
            "model.h": c_source.model_header(_facts(graph, plan.arena_bytes)),
            "model.c": c_source.model_source(layers, names, offsets, (offsets[source.index], offsets[result.index])),
            "weights.h": c_source.weights_header(arrays),
            "weights.c": c_source.weights_source(arrays),
        },
        arena_bytes=plan.arena_bytes,
        weights_bytes=sum(values.nbytes for _, values in arrays),
        input_bytes=graph.input.size,
        output_bytes=graph.output.size,
        input=Quantisation(scale=graph.input.scale, zero_point=graph.input.zero_point),
        output=Quantisation(scale=graph.output.scale, zero_point=graph.output.zero_point),
        macs=sum(layer.macs for layer in layers),
        layers=len(layers),
    )


def _lower_all(graph: Graph) -> tuple[list[Layer], dict[int, Tensor]]:
    """Lower what the output depends on. The second result maps an alias to the tensor whose bytes it shares."""
    operators = _needed(graph)
    roots: dict[int, Tensor] = {}
    known = {graph.input.index}
    layers: list[Layer] = []
    for operator in operators:
        for tensor in operator.inputs:
            if tensor is not None and tensor.data is None and not _known(tensor, known, operator):
                raise operator.malformed(f"{tensor.label} is read before anything makes it")
        if operator.name in ALIASES:
            roots[operator.output.index] = _root(roots, _alias(operator))
        else:
            layer = lower(operator)
            inputs = tuple(_root(roots, tensor) for tensor in layer.inputs)
            layers.append(dataclasses.replace(layer, inputs=inputs))
        if operator.output.index in known or operator.output.data is not None:
            raise operator.malformed(f"{operator.output.label} is made twice")
        known.add(operator.output.index)
    if not layers:
        raise UnsupportedModelError("the model computes nothing: its output is its input. Check what was exported")
    return layers, roots


def _known(tensor: Tensor, known: set[int], operator: Operator) -> bool:
    # The shape that a RESHAPE is told at run time is not needed: the tensor's own is fixed.
    return tensor.index in known or (operator.name in ALIASES and tensor is not operator.inputs[0])


def _needed(graph: Graph) -> list[Operator]:
    """Return the operators that the output depends on, in order; shape arithmetic falls away."""
    wanted = {graph.output.index}
    needed: list[Operator] = []
    for operator in reversed(graph.operators):
        if any(tensor.index in wanted for tensor in operator.outputs):
            needed.append(operator)
            inputs = operator.inputs[:1] if operator.name in ALIASES else operator.inputs
            wanted.update(tensor.index for tensor in inputs if tensor is not None)
    for end in (graph.input, graph.output):
        activation_tensor(Operator(0, "the model's interface", 1, (), (end,), {}), end)
    return needed[::-1]


def _alias(operator: Operator) -> Tensor:
    source = operator.input(0)
    if len(operator.outputs) != 1 or source.data is not None:
        raise operator.malformed("it does not give one tensor another shape")
    if operator.output.size != source.size:
        raise operator.unsupported(
            f"it makes {operator.output.size} elements of {source.size}", "Convert the model with the batch fixed to 1"
        )
    return source


def _root(roots: Mapping[int, Tensor], tensor: Tensor) -> Tensor:
    return roots.get(tensor.index, tensor)


def _plan(layers: Sequence[Layer], source: Tensor, result: Tensor) -> tuple[Plan, list[int]]:
    """Plan the arena. The second result names the tensors in the plan's order."""
    lives = {source.index: Lifetime(source.size, 0, 0)}
    for step, layer in enumerate(layers):
        for tensor in layer.inputs:
            if tensor.data is None:
                lives[tensor.index] = dataclasses.replace(lives[tensor.index], last=step)
        lives[layer.output.index] = Lifetime(layer.output.size, step, step)
    lives[result.index] = dataclasses.replace(lives[result.index], last=len(layers))
    return plan_arena(list(lives.values())), list(lives)


def _facts(graph: Graph, arena_bytes: int) -> dict[str, str]:
    entry, leave = graph.input, graph.output
    info = {
        "input_bytes": entry.size,
        "output_bytes": leave.size,
        "input_scale": repr(entry.scale),
        "input_zero_point": entry.zero_point,
        "output_scale": repr(leave.scale),
        "output_zero_point": leave.zero_point,
        "arena_bytes": arena_bytes,
    }
    return {
        "MODEL_ARENA_BYTES": str(arena_bytes),
        "MODEL_INPUT_BYTES": f"{entry.size}u",
        "MODEL_OUTPUT_BYTES": f"{leave.size}u",
        "MODEL_OUTPUT_ZERO_POINT": f"({leave.zero_point})",
        "MODEL_OUTPUT_SCALE_MILLI_Q16": str(round(min(leave.scale, 1e8) * 1000 * (1 << 16))),
        "MODEL_INFO": '"' + " ".join(f"{key}={value}" for key, value in info.items()) + '"',
    }
