"""Writes layers as C: constants in weights.c, one call of a kernel per layer in model.c."""

import re
from collections.abc import Iterator, Mapping, Sequence

from services.artifact_builder.codegen.graph import Tensor
from services.artifact_builder.codegen.layers import Layer, Values

_NAME_CHARACTERS = 40
_VALUES_PER_LINE = 24


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Return one C identifier per layer, from its place and the name of the tensor it makes."""
    return [f"layer_{number:02}_{_identifier(layer.output.name)}" for number, layer in enumerate(layers)]


def _identifier(tensor_name: str) -> str:
    """Shorten ``functional_1/conv1d_1/Relu;functional_1/...`` to ``conv1d_1_relu``."""
    first = tensor_name.split(";", 1)[0]
    parts = [part for part in first.split("/") if part]
    words = re.sub(r"[^a-z0-9]+", "_", "_".join(parts[-2:]).lower()).strip("_")
    return words[:_NAME_CHARACTERS].strip("_") or "unnamed"


def constants(layers: Sequence[Layer], names: Sequence[str]) -> Iterator[tuple[str, Values]]:
    """Yield every constant array with its C name: weights, tables, and operands that never change."""
    for layer, name in zip(layers, names, strict=True):
        for member, values in layer.arrays.items():
            yield f"{name}_{member.rsplit('.', 1)[-1]}", values
        for position, tensor in enumerate(layer.inputs):
            if tensor.data is not None:
                yield f"{name}_operand_{position}", tensor.int8_values()


def weights_header(arrays: Sequence[tuple[str, Values]]) -> str:
    """Declare every constant array."""
    lines = [f"extern const {_c_type(values)} {name}[{values.size}];" for name, values in arrays]
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


def weights_source(arrays: Sequence[tuple[str, Values]]) -> str:
    """Define every constant array."""
    parts = ['/* Generated: what the layers know. */\n#include "weights.h"\n\n#include "edgeloop_kernels.h"\n']
    for name, values in arrays:
        numbers = [_literal(value) for value in values.reshape(-1).tolist()]
        rows = [
            "    " + ", ".join(numbers[i : i + _VALUES_PER_LINE]) + ","
            for i in range(0, len(numbers), _VALUES_PER_LINE)
        ]
        parts.append(f"const {_c_type(values)} {name}[{values.size}] EL_ALIGNED = {{\n" + "\n".join(rows) + "\n};\n")
    return "\n".join(parts)


def model_header(facts: Mapping[str, str]) -> str:
    """Declare the model: facts as macros, and the functions that the firmware calls."""
    macros = [f"#define {name} {value}" for name, value in facts.items()]
    return "\n".join(
        [
            "/* Generated: the model. */",
            "#ifndef MODEL_H",
            "#define MODEL_H",
            "",
            "#include <stdint.h>",
            "",
            *macros,
            "",
            "/* Where the input goes; layers may overwrite it. */",
            "int8_t *model_input(void);",
            "void model_invoke(void);",
            "const int8_t *model_output(void);",
            "",
            "#endif",
            "",
        ]
    )


def model_source(
    layers: Sequence[Layer], names: Sequence[str], offsets: Mapping[int, int], ends: tuple[int, int]
) -> str:
    """Define the layers and the calls.

    `offsets` are places in the arena by tensor index; `ends` are those of the model's input and output.
    """
    descriptions = [_description(layer, name) for layer, name in zip(layers, names, strict=True)]
    calls = [f"    {_call(layer, name, offsets)}" for layer, name in zip(layers, names, strict=True)]
    return "\n".join(
        [
            "/* Generated: one call of a kernel per layer. */",
            '#include "model.h"',
            "",
            '#include "edgeloop_kernels.h"',
            '#include "weights.h"',
            "",
            "/* Every tensor between layers has its place here; tensors that never live at once share bytes. */",
            "static int8_t arena[MODEL_ARENA_BYTES] EL_ALIGNED;",
            "",
            *descriptions,
            "int8_t *model_input(void)",
            "{",
            f"    return arena + {ends[0]};",
            "}",
            "",
            "void model_invoke(void)",
            "{",
            *calls,
            "}",
            "",
            "const int8_t *model_output(void)",
            "{",
            f"    return arena + {ends[1]};",
            "}",
            "",
        ]
    )


def _description(layer: Layer, name: str) -> str:
    fields: dict[str, object] = dict(layer.fields)
    for member in layer.arrays:
        *path, last = member.split(".")
        inner = fields
        for step in path:
            nested = inner.get(step)
            inner[step] = dict(nested) if isinstance(nested, Mapping) else {}
            inner = inner[step]  # type: ignore[assignment] # just made a dict
        inner[last] = f"{name}_{last}"
    shapes = " and ".join(_dimensions(tensor) for tensor in layer.inputs)
    work = f", {layer.macs} multiply-accumulates" if layer.macs else ""
    return (
        f"/* {shapes} to {_dimensions(layer.output)}{work} */\n"
        f"static const struct {layer.struct or layer.kernel} {name} = {_initialiser(fields, 1)};\n"
    )


def _dimensions(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "1"


def _initialiser(value: object, depth: int) -> str:
    if isinstance(value, Mapping):
        indent = "    " * depth
        lines = [f"{indent}.{key} = {_initialiser(inner, depth + 1)}," for key, inner in value.items()]
        return "{\n" + "\n".join(lines) + "\n" + "    " * (depth - 1) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(_initialiser(inner, depth) for inner in value) + "}"
    return value if isinstance(value, str) else _literal(int(str(value)))


def _call(layer: Layer, name: str, offsets: Mapping[int, int]) -> str:
    sources = [
        f"{name}_operand_{position}" if tensor.data is not None else f"arena + {offsets[tensor.index]}"
        for position, tensor in enumerate(layer.inputs)
    ]
    return f"{layer.kernel}(&{name}, {', '.join(sources)}, arena + {offsets[layer.output.index]});"


def _c_type(values: Values) -> str:
    return "int8_t" if values.dtype.itemsize == 1 else "int32_t"


def _literal(value: int) -> str:
    # C has no negative literals: -2147483648 would be a negated number that is too large.
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)
