"""Writes a program as C: constants in weights.c, one function per operator in model.c, the interface in model.h."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.graph import ElementType, Tensor
from services.artifact_builder.codegen.layers import Layer, Values
from services.artifact_builder.codegen.program import Place, Program, Step, interface_offsets
from shared.events.lab import Numerics

_NAME_CHARACTERS: Final = 40
_VALUES_PER_LINE: Final = 24
_LINE_CHARACTERS: Final = 120
_FLAT_CHARACTERS: Final = 96
_FLAT_FROM_DEPTH: Final = 2
_C_TYPES: Final = {"i1": "int8_t", "i2": "int16_t", "u2": "uint16_t", "i4": "int32_t", "f4": "float"}
_INT8_LITERALS: Final = tuple(str(value - 256 if value > 127 else value) for value in range(256))
_INT32_MIN: Final = -(1 << 31)
_FEATURES: Final = {
    "EL_SIZE_BITS": "/* How many bits hold every dimension of tensors and windows. */",
    "EL_NARROW_BIASES": "/* Whether 16 bits hold every bias. */",
    "EL_SHIFTS_IN_BIASES": "/* Whether biases share their words with the shifts. */",
    "EL_SHIFTS_IN_MULTIPLIERS": "/* Whether multipliers do. */",
    "EL_ALL_FIT_FAST_STEPS": "/* Whether every layer with weights fits the fast steps of requantise.h. */",
    "EL_CONV_GROUPS": "/* Whether a convolution has groups. */",
    "EL_CONV_DILATION": "/* Whether a convolution is dilated. */",
    "EL_CONV_WINDOW": "/* Values in the largest window of a convolution. */",
    "EL_CONV_CHANNELS": "/* Channels that the largest convolution makes, of one group. */",
    "EL_CONV_SINGLE_PIXELS": "/* Whether pixels that are not computed four at a time are worth code of their own. */",
    "EL_DEPTHWISE_MULTIPLIER": "/* Whether a depthwise convolution makes several channels of one. */",
    "EL_DEPTHWISE_STRIDES": "/* Whether a depthwise window of 3 x 3 moves by more than one. */",
    "EL_DEPTHWISE_TILES": "/* Whether one has more outputs than a tile holds. */",
}


def step_names(steps: Sequence[Step]) -> list[str]:
    """Return one C identifier per step, from its place and the name of the tensor it makes."""
    return [f"layer_{number:02}_{identifier(_made(step).name)}" for number, step in enumerate(steps)]


def identifier(tensor_name: str) -> str:
    """Shorten ``functional_1/conv1d_1/Relu;functional_1/...`` to ``conv1d_1_relu``."""
    first = tensor_name.split(";", 1)[0]
    parts = [part for part in first.split("/") if part]
    words = re.sub(r"[^a-z0-9]+", "_", "_".join(parts[-2:]).lower()).strip("_")
    return words[:_NAME_CHARACTERS].strip("_") or "unnamed"


def _made(step: Step) -> Tensor:
    outputs = step.operator.outputs
    return outputs[0] if outputs else step.layers[-1].output


@dataclass(slots=True)
class Constants:
    """Constant arrays. Equal ones are stored once, under the name of their first user."""

    arrays: dict[str, Values] = field(default_factory=dict)
    _names: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def name_of(self, name: str, values: Values) -> str:
        """Return the C name of an array; a new one is called `name`."""
        known = self._names.setdefault((values.dtype.str, values.tobytes()), name)
        if known == name:
            self.arrays[name] = values
        return known

    @property
    def size_bytes(self) -> int:
        """What all take in flash."""
        return sum(values.nbytes for values in self.arrays.values())


def weights_header(constants: Constants) -> str:
    """Declare every constant array."""
    lines = [f"extern const {_c_type(values)} {name}[{values.size}];" for name, values in constants.arrays.items()]
    return "\n".join(
        [
            "/* Generated: what the layers know. */",
            "#ifndef WEIGHTS_H",
            "#define WEIGHTS_H",
            "",
            "#include <stdint.h>",
            "",
            *lines,
            "",
            "#endif",
            "",
        ]
    )


def weights_source(constants: Constants) -> str:
    """Define every constant array."""
    parts = ['/* Generated: what the layers know. */\n#include "weights.h"\n\n#include "edgeloop_kernels.h"\n']
    for name, values in constants.arrays.items():
        rows = "\n".join(f"    {row}," for row in _rows(values.reshape(-1)))
        parts.append(f"const {_c_type(values)} {name}[{values.size}] EL_ALIGNED = {{\n{rows}\n}};\n")
    return "\n".join(parts)


def _rows(values: NDArray[np.generic]) -> Iterator[str]:
    if values.dtype.itemsize == 1:
        literals, raw = _INT8_LITERALS, values.tobytes()
        for start in range(0, len(raw), _VALUES_PER_LINE):
            yield ", ".join([literals[byte] for byte in raw[start : start + _VALUES_PER_LINE]])
        return
    for start in range(0, len(values), _VALUES_PER_LINE):
        yield ", ".join([_literal(value) for value in values[start : start + _VALUES_PER_LINE].tolist()])


def _c_type(values: Values) -> str:
    return _C_TYPES[values.dtype.str[1:]]


def _literal(value: float) -> str:
    if isinstance(value, float):
        # The shortest digits that lead back to this float, and to no other.
        return f"{np.float32(value)!s}f"
    # C has no negative literals: -2147483648 would be a negated number that is too large.
    return "(-2147483647 - 1)" if value == _INT32_MIN else str(value)


def numerics_header(numerics: Numerics) -> str:
    """Tell the kernels whose arithmetic the layers are described for."""
    return "\n".join(
        [
            "/* Generated: whose bits the kernels give, TensorFlow Lite for Microcontrollers' (0) or LiteRT's (1). */",
            "#ifndef NUMERICS_H",
            "#define NUMERICS_H",
            "",
            f"#define EL_NUMERICS_LITERT {int(numerics is Numerics.LITERT)}",
            "",
            "#endif",
            "",
        ]
    )


def features_header(features: Mapping[str, int]) -> str:
    """Tell the kernels what the layers ask of them, so that the rest costs no flash."""
    return "\n".join(
        [
            "/* Generated: what the layers of the model ask of the kernels. */",
            "#ifndef EDGELOOP_FEATURES_H",
            "#define EDGELOOP_FEATURES_H",
            "",
            *(line for name, value in features.items() for line in (_FEATURES[name], f"#define {name} {value}", "")),
            "#endif",
            "",
        ]
    )


def model_header(program: Program, facts: Mapping[str, str]) -> str:
    """Declare the model: facts as macros, and the functions that the firmware calls."""
    return "\n".join(
        [
            "/* Generated: the model. */",
            "#ifndef MODEL_H",
            "#define MODEL_H",
            "",
            "#include <stdint.h>",
            "",
            *(f"#define {name} {value}" for name, value in facts.items()),
            "",
            *_interface("input", program.inputs),
            "int8_t *model_input(void);",
            "",
            *_interface("output", program.outputs),
            "const int8_t *model_output(void);",
            "",
            "/* One inference. It may overwrite the input. */",
            "void model_invoke(void);",
            "",
            "/* Forgets what earlier inferences left. Nothing to do for a model without state. */",
            "void model_reset(void);",
            "",
            "/* An element of the output in thousandths, held to what int32 can say. */",
            "int32_t model_output_milli(uint32_t element);",
            "",
            "#endif",
            "",
        ]
    )


def _interface(what: str, tensors: Sequence[Tensor]) -> list[str]:
    lines = [f"{tensor.type} {dimensions(tensor)}, {_one_line(tensor.name)}{_meaning(tensor)}" for tensor in tensors]
    if len(tensors) == 1:
        return [f"/* The {what}: {lines[0]}. */"]
    offsets = interface_offsets(tensors)
    return [
        f"/* The {what}s, from these bytes on:",
        *(f" * {offset}: {line}" for offset, line in zip(offsets, lines, strict=True)),
        " */",
    ]


def _meaning(tensor: Tensor) -> str:
    if len(tensor.scales) != 1:
        return ""
    return f", (value - {tensor.zero_point}) * {tensor.scale:.6g}".replace("- -", "+ ")


def _one_line(name: str) -> str:
    """Keep a name from ending the comment that it stands in."""
    return re.sub(r"[^\w:./;-]+", "_", name, flags=re.ASCII) or "without a name"


def model_source(program: Program, names: Sequence[str], constants: Constants) -> str:
    """Define the layers and the calls."""
    functions = [_function(program, step, name, constants) for step, name in zip(program.steps, names, strict=True)]
    state = _state(program, constants)
    head = [
        "/* Generated: one function per layer. */",
        '#include "model.h"',
        "",
        '#include "edgeloop_kernels.h"',
        '#include "milli.h"',
        '#include "weights.h"',
        "",
        "/* Every tensor between layers has its place here; tensors that never live at once share bytes. */",
        "static int8_t arena[MODEL_ARENA_BYTES] EL_ALIGNED;",
        "",
    ]
    return "\n".join([*head, *state.declarations, *functions, *_entry_points(program, names, state)])


@dataclass(frozen=True, slots=True)
class _State:
    declarations: list[str]
    resets: list[str]
    first_inference: list[str]
    """What model_invoke begins with, if the state is not zeros at first."""


def _state(program: Program, constants: Constants) -> _State:
    declarations, resets = [], []
    for variable in program.variables:
        name, size_bytes = _state_name(program, variable.tensor), variable.tensor.size_bytes
        declarations.append(
            f"/* {dimensions(variable.tensor)}, kept from one inference to the next. */\n"
            f"static int8_t {name}[{size_bytes}] EL_ALIGNED;\n"
        )
        if variable.initial is None:
            resets.append(f"    el_set({name}, {variable.fill}, {size_bytes});")
        else:
            values = np.frombuffer(variable.initial, np.int8)
            resets.append(f"    el_copy({name}, {constants.name_of(f'{name}_initial', values)}, {size_bytes});")
    starts = not all(variable.begins_as_zeros for variable in program.variables)
    if starts:
        declarations.append("static int32_t state_is_set;\n")
        resets.append("    state_is_set = 1;")
    first = ["    if (!state_is_set) {", "        model_reset();", "    }"] if starts else []
    return _State(declarations, resets, first)


def _state_name(program: Program, tensor: Tensor) -> str:
    number = next(i for i, variable in enumerate(program.variables) if variable.tensor.index == tensor.index)
    return f"state_{number}_{identifier(tensor.name)}"


def _entry_points(program: Program, names: Sequence[str], state: _State) -> list[str]:
    calls = [f"    {name}();" for name in names]
    pointer = {
        "input": _pointer(program, program.input_place),
        "output": _pointer(program, program.output_place),
    }
    return [
        f"int8_t *model_input(void)\n{{\n    return {pointer['input']};\n}}\n",
        "\n".join(["EL_SMALL void model_invoke(void)", "{", *state.first_inference, *calls, "}", ""]),
        f"const int8_t *model_output(void)\n{{\n    return {pointer['output']};\n}}\n",
        "\n".join(["void model_reset(void)", "{", *state.resets, "}", ""]),
        "\n".join(["EL_SMALL int32_t model_output_milli(uint32_t element)", "{", *_milli(program.outputs), "}", ""]),
    ]


def _milli(outputs: Sequence[Tensor]) -> Iterable[str]:
    """Return the lines that find the tensor of an element, and dequantise it."""
    for number, (tensor, offset) in enumerate(zip(outputs, interface_offsets(outputs), strict=True)):
        scale = round(min(tensor.scale if len(tensor.scales) == 1 else 1.0, 1e8) * 1000 * (1 << 16))
        zero_point = tensor.zero_point if len(tensor.scales) == 1 else 0
        base = "model_output()" + (f" + {offset}" if offset else "")
        value = f"return el_milli_{tensor.type}({base}, element, {zero_point}, {scale});"
        if tensor.type == "float32":
            value = f"return el_milli_float32({base}, element);"
        if number == len(outputs) - 1:
            yield f"    {value}"
        else:
            yield from (f"    if (element < {tensor.size}u) {{", f"        {value}", "    }")
            yield f"    element -= {tensor.size}u;"


def _function(program: Program, step: Step, name: str, constants: Constants) -> str:
    several = len(step.layers) > 1
    structs, calls = [], []
    for number, layer in enumerate(step.layers):
        struct = f"part_{number}" if several else "layer"
        fields = _with_arrays(layer, name, f"_{number}" if several else "", constants)
        structs.append(f"    static const struct {layer.struct or layer.kernel} {struct} = {_initialiser(fields, 2)};")
        calls.append(_call(program, layer, struct, name, constants))
    return "\n".join([_comment(step), f"static void {name}(void)", "{", *structs, "", *calls, "}", ""])


def _comment(step: Step) -> str:
    operator = step.operator
    read = [dimensions(tensor) for tensor in operator.inputs if tensor is not None and _is_activation(tensor)] or [
        "state"
    ]
    made = [dimensions(tensor) for tensor in operator.outputs] or ["state"]
    macs = sum(layer.macs for layer in step.layers)
    work = f", {macs:,} multiply-accumulates" if macs else ""
    shapes = " to ".join(_grouped(shapes) for shapes in (read, made) if shapes)
    return f"/* {operator.name}: {shapes}{work}. */"


def _is_activation(tensor: Tensor) -> bool:
    return tensor.data is None and tensor.type is not ElementType.RESOURCE


def _grouped(shapes: Sequence[str]) -> str:
    """Join shapes, and count equal neighbours."""
    if len(shapes) > 2 and len(set(shapes)) == 1:
        return f"{len(shapes)} times {shapes[0]}"
    return " and ".join(shapes)


def dimensions(tensor: Tensor) -> str:
    """Return a shape as ``1x49x10x1``."""
    return "x".join(str(size) for size in tensor.shape) or "1"


def _with_arrays(layer: Layer, name: str, suffix: str, constants: Constants) -> dict[str, object]:
    fields: dict[str, object] = dict(layer.fields)
    for member, values in layer.arrays.items():
        *path, last = member.split(".")
        inner = fields
        for step in path:
            nested = inner.get(step)
            inner[step] = dict(nested) if isinstance(nested, Mapping) else {}
            inner = inner[step]  # type: ignore[assignment] # just made a dict
        known_as = member.removeprefix("requantisation.").replace(".", "_")
        inner[last] = constants.name_of(f"{name}{suffix}_{known_as}", values)
    return fields


def _initialiser(value: object, depth: int) -> str:
    if isinstance(value, Mapping):
        if depth > _FLAT_FROM_DEPTH:
            flat = "{" + ", ".join(f".{key} = {_initialiser(inner, depth)}" for key, inner in value.items()) + "}"
            if len(flat) <= _FLAT_CHARACTERS:
                return flat
        indent = "    " * depth
        lines = [f"{indent}.{key} = {_initialiser(inner, depth + 1)}," for key, inner in value.items()]
        return "{\n" + "\n".join(lines) + "\n" + "    " * (depth - 1) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(_initialiser(inner, depth) for inner in value) + "}"
    if isinstance(value, float):
        return _literal(value)
    return value if isinstance(value, str) else _literal(int(str(value)))


def _call(program: Program, layer: Layer, struct: str, name: str, constants: Constants) -> str:
    sources = [
        constants.name_of(f"{name}_operand_{position}", _bytes_of(tensor))
        if tensor.data is not None
        else _pointer(program, program.places[tensor.index])
        for position, tensor in enumerate(layer.inputs)
    ]
    targets = [_pointer(program, program.places[tensor.index]) for tensor in (layer.output, *layer.states)]
    start = f"    {layer.kernel}("
    arguments = [f"&{struct}", *sources, *targets]
    line = f"{start}{', '.join(arguments)});"
    if len(line) <= _LINE_CHARACTERS:
        return line
    return f"{start}{(',' + chr(10) + ' ' * len(start)).join(arguments)});"


def _bytes_of(tensor: Tensor) -> NDArray[np.int8]:
    return np.frombuffer(tensor.whole_data(), np.int8)


def _pointer(program: Program, place: Place) -> str:
    base = "arena" if place.variable is None else _state_name(program, place.variable.tensor)
    return f"{base} + {place.offset_bytes}" if place.offset_bytes else base
