"""Functions of one int8 value as tables: 256 results computed here instead of on the board."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen import fixed_point
from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.quantisation import INT8_MAX, INT8_MIN

_SOFTMAX_INTEGER_BITS = 5
_SIGMOID_INTEGER_BITS = 4


def softmax_exponentials(scale: float, beta: float) -> NDArray[np.int32]:
    """Return exp(-d * scale * beta) for d = 0 to 255, with 31 fractional bits."""
    by = quantise_multiplier(min(beta * scale * (1 << (31 - _SOFTMAX_INTEGER_BITS)), (1 << 31) - 1.0))
    smallest = -fixed_point.input_radius(_SOFTMAX_INTEGER_BITS, by.shift)
    values = [
        fixed_point.exp_on_negative_values(fixed_point.scale(-d, by), _SOFTMAX_INTEGER_BITS) if -d >= smallest else 0
        for d in range(256)
    ]
    return np.array(values, np.int32)


def lookup_table(operator: Operator, source: Tensor) -> list[int]:
    """Return the output for every input from -128 to 127."""
    function = LOOKUPS[operator.name](operator, source)
    return [function(value) for value in range(INT8_MIN, INT8_MAX + 1)]


def _clamp(value: int, low: int = INT8_MIN) -> int:
    return min(max(value, low), INT8_MAX)


def _float32_ratio(source: Tensor, output: Tensor) -> float:
    return float(np.float32(source.scale) / np.float32(output.scale))


def _quantize(operator: Operator, source: Tensor) -> Callable[[int], int]:
    by = quantise_multiplier(source.scale / operator.output.scale)
    return lambda value: _clamp(fixed_point.scale(value - source.zero_point, by) + operator.output.zero_point)


def _relu(operator: Operator, source: Tensor) -> Callable[[int], int]:
    by = quantise_multiplier(_float32_ratio(source, operator.output))
    zero = operator.output.zero_point
    return lambda value: _clamp(zero + fixed_point.scale(value - source.zero_point, by), zero)


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
    "QUANTIZE": _quantize,
    "RELU": _relu,
    "RELU6": _relu6,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _logistic,
    "TANH": _tanh,
}
