"""Functions of one int8 value as tables: 256 results computed here instead of on the board."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen import fixed_point, litert
from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.quantisation import INT8_MAX, INT8_MIN
from shared.events.lab import Numerics

_SOFTMAX_INTEGER_BITS = 5
_SIGMOID_INTEGER_BITS = 4


def softmax_multiplier(scale: float, beta: float) -> Multiplier:
    """Return what brings differences of inputs to 5 integer bits; its shift is not negative."""
    by = quantise_multiplier(min(beta * scale * (1 << (31 - _SOFTMAX_INTEGER_BITS)), (1 << 31) - 1.0))
    # So small a scale makes all exponentials one; TFLM refuses it.
    return by if by.shift >= 0 else Multiplier(fixed_point.divide_by_power_of_two(by.multiplier, -by.shift), 0)


def softmax_exponentials(by: Multiplier) -> NDArray[np.int32]:
    """Return exp(-d), d brought to scale, for d = 0 to 255, with 31 fractional bits."""
    smallest = -fixed_point.input_radius(_SOFTMAX_INTEGER_BITS, by.shift)
    values = [
        fixed_point.exp_on_negative_values(fixed_point.scale(-d, by), _SOFTMAX_INTEGER_BITS) if -d >= smallest else 0
        for d in range(256)
    ]
    return np.array(values, np.int32)


def lookup_table(operator: Operator, source: Tensor, numerics: Numerics) -> list[int]:
    """Return the output for every input from -128 to 127."""
    function = LOOKUPS[operator.name](operator, source)
    if numerics is Numerics.LITERT:
        function = litert.lookup_function(operator, source) or function
    return [function(value) for value in range(INT8_MIN, INT8_MAX + 1)]


def _clamp(value: int, low: int = INT8_MIN) -> int:
    return min(max(value, low), INT8_MAX)


def _float32_ratio(source: Tensor, output: Tensor) -> float:
    return float(np.float32(source.scale) / np.float32(output.scale))


def requantisation_table(operator: Operator, source: Tensor, numerics: Numerics) -> list[int]:
    """Return the int8 of another scale for every int8."""
    output = operator.output
    values = range(INT8_MIN, INT8_MAX + 1)
    if numerics is Numerics.LITERT:
        return [litert.requantised(operator, source, value) for value in values]
    by = quantise_multiplier(source.scale / output.scale)
    return [_clamp(fixed_point.scale(value - source.zero_point, by) + output.zero_point) for value in values]


def _relu(operator: Operator, source: Tensor) -> Callable[[int], int]:
    by = quantise_multiplier(_float32_ratio(source, operator.output))
    zero = operator.output.zero_point
    return lambda value: _clamp(zero + fixed_point.scale(value - source.zero_point, by), zero)


def _relu_n1_to_1(operator: Operator, source: Tensor) -> Callable[[int], int]:
    output = operator.output
    by = quantise_multiplier(source.scale / output.scale)
    one = math.floor(1.0 / output.scale + 0.5)
    low, high = max(output.zero_point - one, INT8_MIN), min(output.zero_point + one, INT8_MAX)
    return lambda value: min(max(output.zero_point + fixed_point.scale(value - source.zero_point, by), low), high)


def _relu6(operator: Operator, source: Tensor) -> Callable[[int], int]:
    if (source.scale, source.zero_point) != (operator.output.scale, operator.output.zero_point):
        raise operator.unsupported("its input and output have different scales", "Fuse it into the layer before")
    six = min(source.zero_point + math.floor(6.0 / source.scale + 0.5), INT8_MAX)
    return lambda value: min(max(value, source.zero_point), six)


def _leaky_relu(operator: Operator, source: Tensor) -> Callable[[int], int]:
    output = operator.output
    alpha = np.float32(operator.options.get("Alpha", 0.0))
    if not 0 <= alpha < 1:
        raise operator.unsupported(f"its slope is {alpha}; slopes from 0 to 1 are supported", "Use such a slope")
    identity = quantise_multiplier(_float32_ratio(source, output))
    slope = quantise_multiplier(float(np.float32(source.scale) * alpha / np.float32(output.scale)))

    def apply(value: int) -> int:
        centred = value - source.zero_point
        return _clamp(fixed_point.scale(centred, identity if centred >= 0 else slope) + output.zero_point)

    return apply


def _abs(operator: Operator, source: Tensor) -> Callable[[int], int]:
    output = operator.output
    if source.scale == output.scale:
        return lambda value: _clamp(abs(value - source.zero_point) + output.zero_point)
    by = quantise_multiplier(source.scale / output.scale)
    return lambda value: _clamp(fixed_point.scale(abs(value - source.zero_point), by) + output.zero_point)


def _elu(operator: Operator, source: Tensor) -> Callable[[int], int]:
    """Follow TFLM's table, which is made in float32."""
    output = operator.output
    scale, inverse = np.float32(source.scale), np.float32(1) / np.float32(output.scale)

    def apply(value: int) -> int:
        real = scale * np.float32(value - source.zero_point)
        transformed = np.float32(np.exp(float(real))) - np.float32(1) if real < 0 else real
        rescaled = float(transformed * inverse)
        rounded = math.floor(rescaled + 0.5) if rescaled >= 0 else math.ceil(rescaled - 0.5)
        return _clamp(rounded + output.zero_point)

    return apply


_INT16_MIN, _INT16_MAX = -(1 << 15), (1 << 15) - 1


def _saturate16(value: int) -> int:
    return min(max(value, _INT16_MIN), _INT16_MAX)


def _multiply_high16(a: int, b: int) -> int:
    """Return the high 16 bits of 2ab, rounded; gemmlowp's SaturatingRoundingDoublingHighMul."""
    product = a * b
    nudged = product + ((1 << 14) if product >= 0 else 1 - (1 << 14))
    return _saturate16(int(nudged / (1 << 15)))


def _multiplier16(real: float) -> tuple[int, int]:
    by = quantise_multiplier(real)
    if by.multiplier >= (1 << 31) - (1 << 15):
        return _INT16_MAX, by.shift
    return (by.multiplier + (1 << 15)) >> 16, by.shift


def _hard_swish(operator: Operator, source: Tensor) -> Callable[[int], int]:
    """Follow HardSwish of reference/hard_swish.h: 16-bit fixed point with saturation after every step."""
    output = operator.output
    fine_scale = np.float32(1 / 128) * np.float32(source.scale)
    to_output, output_shift = _multiplier16(float(fine_scale / np.float32(output.scale)))
    to_relu, relu_shift = _multiplier16(float(fine_scale / np.float32(3 / 32768)))
    if output_shift > 0:
        raise operator.unsupported("its output is 128 times finer than its input", "Convert the model again")

    def apply(value: int) -> int:
        fine = _wrap16((value - source.zero_point) * 128)
        on_output_scale = _multiply_high16(fine, to_output)
        gate = fine
        if relu_shift > 0:
            gate = _saturate16(gate << (relu_shift - 1))
        gate = _multiply_high16(gate, to_relu)
        if relu_shift > 0:
            gate = _saturate16(gate << 1)
        elif relu_shift < 0:
            gate = fixed_point.divide_by_power_of_two(gate, -relu_shift)
        gate = (gate + (1 << 15)) >> 1
        product = int(gate * on_output_scale / (1 << 15))
        return _clamp(fixed_point.divide_by_power_of_two(product, -output_shift) + output.zero_point)

    return apply


def _wrap16(value: int) -> int:
    return (value + (1 << 15)) % (1 << 16) - (1 << 15)


def _sigmoid_like(
    operator: Operator, source: Tensor, function: Callable[[int, int], int], output_bits: int, expected_zero: int
) -> Callable[[int], int]:
    if (operator.output.scale, operator.output.zero_point) != (2.0**-output_bits, expected_zero):
        raise operator.malformed(
            f"its output should have the scale 2^-{output_bits} and the zero point {expected_zero}"
        )
    by: Multiplier = quantise_multiplier(source.scale * (1 << (31 - _SIGMOID_INTEGER_BITS)))
    radius = fixed_point.input_radius(_SIGMOID_INTEGER_BITS, by.shift)

    def apply(value: int) -> int:
        centred = value - source.zero_point
        if centred <= -radius:
            return INT8_MIN
        if centred >= radius:
            return INT8_MAX
        result = function(fixed_point.scale(centred, by), _SIGMOID_INTEGER_BITS)
        return _clamp(fixed_point.divide_by_power_of_two(result, 31 - output_bits) + expected_zero)

    return apply


def _logistic(operator: Operator, source: Tensor) -> Callable[[int], int]:
    return _sigmoid_like(operator, source, fixed_point.logistic, 8, -128)


def _tanh(operator: Operator, source: Tensor) -> Callable[[int], int]:
    return _sigmoid_like(operator, source, fixed_point.tanh, 7, 0)


LOOKUPS: Mapping[str, Callable[[Operator, Tensor], Callable[[int], int]]] = {
    "RELU": _relu,
    "RELU6": _relu6,
    "RELU_N1_TO_1": _relu_n1_to_1,
    "ABS": _abs,
    "ELU": _elu,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _logistic,
    "TANH": _tanh,
}
