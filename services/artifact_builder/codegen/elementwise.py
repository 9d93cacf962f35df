"""Lowering of operators that combine two tensors value by value."""

from dataclasses import replace

import numpy as np

from services.artifact_builder.codegen import litert
from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.movement import Region, move, repeated
from services.artifact_builder.codegen.quantisation import activation_range, activation_tensor
from shared.events.lab import Numerics

_ADD_LEFT_SHIFT = 20
_FIRST_EXPANSION_INDEX = -2_000_000


def lower_addition(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower addition and subtraction."""
    a, b, output, expansions = _operands(operator)
    if numerics is Numerics.LITERT:
        return [*expansions, Layer("el_litert_add", (a, b), output, litert.addition(operator, a, b))]
    twice_maximum = 2.0 * max(a.scale, b.scale)
    low, high = activation_range(operator, output)
    result = quantise_multiplier(twice_maximum / ((1 << _ADD_LEFT_SHIFT) * output.scale))
    call = Layer(
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
    return [*expansions, call]


def lower_multiplication(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower multiplication."""
    a, b, output, expansions = _operands(operator)
    if numerics is Numerics.LITERT:
        return [*expansions, Layer("el_litert_mul", (a, b), output, litert.multiplication(operator, a, b))]
    low, high = activation_range(operator, output)
    result = quantise_multiplier(a.scale * b.scale / output.scale)
    call = Layer(
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
    return [*expansions, call]


def lower_extremum(operator: Operator) -> Lowered:
    """Lower the larger or the smaller of two values. TensorFlow Lite compares them as they are stored."""
    a, b, output, expansions = _operands(operator)
    if not a.quantisation == b.quantisation == output.quantisation:
        raise operator.unsupported(
            "its inputs and output differ in scale", "Convert the model again; a QUANTIZE belongs between them"
        )
    call = Layer(
        kernel="el_maximum" if operator.name == "MAXIMUM" else "el_minimum",
        struct="el_extremum",
        inputs=(a, b),
        output=output,
        fields={"size": output.size, "a_size": a.size, "b_size": b.size},
    )
    return [*expansions, call]


def _operands(operator: Operator) -> tuple[Tensor, Tensor, Tensor, list[Layer]]:
    """Return both operands, the output, and what must be called before."""
    output = activation_tensor(operator, operator.output)
    a, expansion_a = fitted(operator, activation_tensor(operator, operator.input(0)), 0)
    b, expansion_b = fitted(operator, activation_tensor(operator, operator.input(1)), 1)
    return a, b, output, [*expansion_a, *expansion_b]


def fitted(operator: Operator, tensor: Tensor, position: int) -> tuple[Tensor, list[Layer]]:
    """Return an operand whose values cover the output when they are repeated, and the calls that make it.

    Kernels repeat an operand whole, which is how leading dimensions broadcast. Any other one is spread out before:
    a constant here, everything else by a call.
    """
    shape = operator.output.shape
    if _repeats_into(tensor.shape, shape):
        return tensor, []
    read = repeated(operator, tensor, shape)
    index = _FIRST_EXPANSION_INDEX - 2 * operator.index - position
    if tensor.data is not None:
        values = np.broadcast_to(tensor.int8_values(), shape)
        return replace(tensor, index=index, shape=shape, data=values.tobytes()), []
    spread = replace(tensor, index=index, name=f"{tensor.name} spread out", shape=shape)
    return spread, [move(operator, tensor, read, spread, Region.whole(shape, 1))]


def _repeats_into(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    stripped = shape
    while stripped and stripped[0] == 1:
        stripped = stripped[1:]
    return not stripped or whole[-len(stripped) :] == stripped


def _operand(tensor: Tensor, by: Multiplier) -> dict[str, object]:
    return {"size": tensor.size, "offset": -tensor.zero_point, "multiplier": by.multiplier, "shift": by.shift}
