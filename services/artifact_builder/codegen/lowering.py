"""One function per operator: from the graph to a call of a kernel."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from services.artifact_builder.codegen import tables
from services.artifact_builder.codegen.convolutions import (
    lower_conv_2d,
    lower_depthwise_conv_2d,
    lower_fully_connected,
    lower_pool_2d,
)
from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Layer
from services.artifact_builder.codegen.quantisation import activation_range, activation_tensor

ALIASES = frozenset({"RESHAPE", "EXPAND_DIMS", "SQUEEZE"})
"""Operators that give the same bytes another shape: they cost nothing."""

_MAXIMUM_SOFTMAX_CLASSES = 4096
_PAD_DIMENSIONS = 4
_ADD_LEFT_SHIFT = 20


def lower(operator: Operator) -> Layer:
    """Return the layer that does what an operator does.

    Raises:
        UnsupportedModelError: there is no kernel for it.
        MalformedModelError: its tensors do not fit together.
    """
    require_kernel(operator)
    if len(operator.outputs) != 1:
        raise operator.malformed(f"it has {len(operator.outputs)} outputs instead of one")
    activation_tensor(operator, operator.output)
    return _LOWERINGS[operator.name](operator)


def require_kernel(operator: Operator) -> None:
    """Raise UnsupportedModelError, naming the operator and its tensor, unless there is a kernel or it needs none."""
    if operator.name not in _LOWERINGS and operator.name not in ALIASES:
        supported = ", ".join(sorted({*_LOWERINGS, *ALIASES}))
        raise operator.unsupported(
            f"this operator is not supported; supported are {supported}",
            "Replace the layer it comes from, or compute it outside the model",
        )


def _lower_addition(operator: Operator) -> Layer:
    a, b, output = _operands(operator)
    twice_maximum = 2.0 * max(a.scale, b.scale)
    low, high = activation_range(operator, output)
    result = quantise_multiplier(twice_maximum / ((1 << _ADD_LEFT_SHIFT) * output.scale))
    return Layer(
        kernel="el_add",
        inputs=(a, b),
        output=output,
        fields={
            "size": output.size,
            "a": _operand(a, quantise_multiplier(a.scale / twice_maximum)),
            "b": _operand(b, quantise_multiplier(b.scale / twice_maximum)),
            "negate_b": int(operator.name == "SUB"),
            "output_offset": output.zero_point,
            "multiplier": result.multiplier,
            "shift": result.shift,
            "minimum": low,
            "maximum": high,
        },
    )


def _lower_multiplication(operator: Operator) -> Layer:
    a, b, output = _operands(operator)
    low, high = activation_range(operator, output)
    result = quantise_multiplier(a.scale * b.scale / output.scale)
    return Layer(
        kernel="el_mul",
        inputs=(a, b),
        output=output,
        fields={
            "size": output.size,
            "a": _operand(a, Multiplier(0, 0)),
            "b": _operand(b, Multiplier(0, 0)),
            "output_offset": output.zero_point,
            "multiplier": result.multiplier,
            "shift": result.shift,
            "minimum": low,
            "maximum": high,
        },
    )


def _operands(operator: Operator) -> tuple[Tensor, Tensor, Tensor]:
    a = activation_tensor(operator, operator.input(0))
    b = activation_tensor(operator, operator.input(1))
    output = operator.output
    for tensor in (a, b):
        if not _repeats_into(tensor.shape, output.shape):
            raise operator.unsupported(
                f"{tensor.label} of shape {list(tensor.shape)} does not repeat whole into {list(output.shape)}",
                "Only trailing dimensions broadcast; reshape the operand",
            )
    return a, b, output


def _repeats_into(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    stripped = shape
    while stripped and stripped[0] == 1:
        stripped = stripped[1:]
    return not stripped or whole[-len(stripped) :] == stripped


def _operand(tensor: Tensor, by: Multiplier) -> dict[str, object]:
    return {"size": tensor.size, "offset": -tensor.zero_point, "multiplier": by.multiplier, "shift": by.shift}


def _lower_softmax(operator: Operator) -> Layer:
    source = activation_tensor(operator, operator.input(0))
    depth = source.shape[-1] if source.shape else 1
    if source.size != operator.output.size:
        raise operator.malformed("input and output differ in size")
    if (operator.output.scale, operator.output.zero_point) != (1 / 256, -128):
        raise operator.malformed("its output should have the scale 1/256 and the zero point -128")
    if depth >= _MAXIMUM_SOFTMAX_CLASSES:
        raise operator.unsupported(f"it has {depth} classes; fewer than 4096 are supported", "Use fewer classes")
    return Layer(
        kernel="el_softmax",
        inputs=(source,),
        output=operator.output,
        fields={"rows": source.size // depth, "depth": depth},
        arrays={"exponentials": tables.softmax_exponentials(source.scale, float(operator.options.get("Beta", 0.0)))},
    )


def _lower_reduction(operator: Operator) -> Layer:
    source = activation_tensor(operator, operator.input(0))
    axes_tensor = operator.input(1)
    if axes_tensor.data is None or axes_tensor.type is not ElementType.INT32:
        raise operator.unsupported("its axes are not a constant", "Name the axes in the layer")
    rank = len(source.shape)
    axes = sorted({int(axis) % rank if -rank <= axis < rank else -1 for axis in axes_tensor.int32_values().reshape(-1)})
    if not axes or axes[0] < 0:
        raise operator.malformed(f"its axes do not exist in {source.label} of {rank} dimensions")
    # An axis of one element changes nothing, and so joins axes that are otherwise apart.
    between = range(axes[0], axes[-1] + 1)
    if any(axis not in axes and source.shape[axis] != 1 for axis in between):
        raise operator.unsupported(f"it reduces axes {axes}, which are not neighbours", "Reduce neighbouring axes")
    reduced = math.prod(source.shape[axis] for axis in between)
    inner = math.prod(source.shape[axes[-1] + 1 :])
    outer = source.size // (reduced * inner)
    if operator.output.size != outer * inner:
        raise operator.malformed(f"its output should have {outer * inner} elements, not {operator.output.size}")
    scales = [(tensor.scale, tensor.zero_point) for tensor in (source, operator.output)]
    if operator.name == "REDUCE_MAX" and scales[0] != scales[1]:
        raise operator.unsupported("its input and output have different scales", "Convert the model again")
    by = _mean_multiplier(source, operator.output, reduced)
    return Layer(
        kernel="el_mean" if operator.name == "MEAN" else "el_reduce_max",
        struct="el_reduce",
        inputs=(source,),
        output=operator.output,
        fields={
            "outer": outer,
            "reduced": reduced,
            "inner": inner,
            "input_zero_point": source.zero_point,
            "output_zero_point": operator.output.zero_point,
            "multiplier": by.multiplier,
            "shift": by.shift,
        },
    )


def _mean_multiplier(source: Tensor, output: Tensor, count: int) -> Multiplier:
    """Return the rescaling with the division by `count` taken in, as QuantizedMeanOrSum does."""
    multiplier, shift = quantise_multiplier(source.scale / output.scale)
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return Multiplier((multiplier << extra) // count, shift - extra)


def _lower_pad(operator: Operator) -> Layer:
    source = activation_tensor(operator, operator.input(0))
    rank = len(source.shape)
    paddings = operator.input(1)
    if paddings.data is None or paddings.type is not ElementType.INT32:
        raise operator.unsupported("its paddings are not an int32 constant", "Use constant paddings")
    if rank > _PAD_DIMENSIONS:
        raise operator.unsupported(f"it pads {rank} dimensions; up to 4 are supported", "Reshape before padding")
    amounts = paddings.int32_values()
    if amounts.shape != (rank, 2) or (amounts < 0).any():
        raise operator.malformed(f"its paddings {amounts.tolist()} do not fit {rank} dimensions")
    padded = tuple(int(size + pair.sum()) for size, pair in zip(source.shape, amounts, strict=True))
    if padded != operator.output.shape:
        raise operator.malformed(f"its output should have the shape {list(padded)}")
    if (source.scale, source.zero_point) != (operator.output.scale, operator.output.zero_point):
        raise operator.unsupported("its input and output have different scales", "Convert the model again")
    lead = [1] * (_PAD_DIMENSIONS - rank)
    return Layer(
        kernel="el_pad",
        inputs=(source,),
        output=operator.output,
        fields={
            "input": [*lead, *source.shape],
            "before": [*(0 for _ in lead), *(int(pair[0]) for pair in amounts)],
            "output": [*lead, *padded],
            "value": _pad_value(operator),
        },
    )


def _pad_value(operator: Operator) -> int:
    constant = operator.optional_input(2)
    if constant is None:
        return operator.output.zero_point
    if constant.data is None or constant.size != 1:
        raise operator.unsupported("its padding value is not a constant", "Use a constant padding value")
    return int(activation_tensor(operator, constant).int8_values().reshape(-1)[0])


def _lower_lookup(operator: Operator) -> Layer:
    source = activation_tensor(operator, operator.input(0))
    if source.size != operator.output.size:
        raise operator.malformed("input and output differ in size")
    return Layer(
        kernel="el_lookup",
        inputs=(source,),
        output=operator.output,
        fields={"size": source.size},
        arrays={"table": np.array(tables.lookup_table(operator, source), np.int8)},
    )


_LOWERINGS: Mapping[str, Callable[[Operator], Layer]] = {
    "CONV_2D": lower_conv_2d,
    "DEPTHWISE_CONV_2D": lower_depthwise_conv_2d,
    "FULLY_CONNECTED": lower_fully_connected,
    "AVERAGE_POOL_2D": lower_pool_2d,
    "MAX_POOL_2D": lower_pool_2d,
    "ADD": _lower_addition,
    "SUB": _lower_addition,
    "MUL": _lower_multiplication,
    "SOFTMAX": _lower_softmax,
    "MEAN": _lower_reduction,
    "REDUCE_MAX": _lower_reduction,
    "PAD": _lower_pad,
    "PADV2": _lower_pad,
    **dict.fromkeys(tables.LOOKUPS, _lower_lookup),
}
