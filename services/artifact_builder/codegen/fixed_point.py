"""gemmlowp's fixed-point arithmetic on Python integers: what multipliers and tables are made of.

The firmware's kernels do the same steps (firmware/kernels/fixed_point.h). Follows gemmlowp's fixedpoint.h and
TensorFlow Lite's quantization_util.cc.
"""

import math
from typing import NamedTuple

_INT32_MAX = (1 << 31) - 1
_INT32_MIN = -(1 << 31)


class Multiplier(NamedTuple):
    """A real factor as ``multiplier / 2**31 * 2**shift``."""

    multiplier: int
    shift: int


def quantise_multiplier(real: float) -> Multiplier:
    """Return the 32-bit multiplier and the shift nearest to a factor that is not negative."""
    if real == 0.0:
        return Multiplier(0, 0)
    fraction, shift = math.frexp(real)
    multiplier = _round_half_away(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return Multiplier(0, 0)
    if shift > 30:
        return Multiplier(_INT32_MAX, 30)
    return Multiplier(multiplier, shift)


def _round_half_away(value: float) -> int:
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def saturate(value: int) -> int:
    """Hold a value to int32."""
    return min(max(value, _INT32_MIN), _INT32_MAX)


def multiply_high(a: int, b: int) -> int:
    """Return the high 32 bits of 2ab, rounded."""
    return saturate((a * b + (1 << 30)) >> 31)


def divide_by_power_of_two(value: int, exponent: int) -> int:
    """Return value / 2^exponent, ties away from zero."""
    if exponent == 0:
        return value
    half = 1 << (exponent - 1)
    return (value + half - (value < 0)) >> exponent


def shift_left(value: int, bits: int) -> int:
    """Return value * 2^bits, saturated."""
    return saturate(value << bits)


def scale(value: int, by: Multiplier) -> int:
    """Return value times a factor, rounded after each of the two steps."""
    if by.shift > 0:
        return multiply_high(value << by.shift, by.multiplier)
    return divide_by_power_of_two(multiply_high(value, by.multiplier), -by.shift)


def input_radius(integer_bits: int, shift: int) -> int:
    """Return the largest input that a table function with so many integer bits tells from infinity."""
    return math.floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / 2.0**shift)


def exp_on_negative_values(value: int, integer_bits: int) -> int:
    """Return exp of a fixed-point value that is not positive, with 31 fractional bits."""
    if value == 0:
        return _INT32_MAX
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    in_quarter = (value & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_zero(shift_left(in_quarter, integer_bits))
    remainder = in_quarter - value
    barrel = ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242))
    for exponent, factor in barrel:
        if integer_bits > exponent and remainder & (1 << (fractional_bits + exponent)):
            result = multiply_high(result, factor)
    return result


def _exp_between_minus_quarter_and_zero(value: int) -> int:
    constant = 1895147668
    one_third = 715827883
    x = value + (1 << 28)
    x2 = multiply_high(x, x)
    x3 = multiply_high(x2, x)
    x4 = multiply_high(x2, x2)
    tail = divide_by_power_of_two(multiply_high(divide_by_power_of_two(x4, 2) + x3, one_third) + x2, 1)
    return saturate(constant + multiply_high(constant, x + tail))


def _reciprocal_estimate(value: int) -> int:
    """Return 2 / (1 + x) for x in [0, 1), with 2 integer bits."""
    half_denominator = (value + _INT32_MAX + 1) // 2
    estimate = 1515870810 + multiply_high(half_denominator, -1010580540)
    for _ in range(3):
        error = (1 << 29) - multiply_high(half_denominator, estimate)
        estimate = saturate(estimate + shift_left(multiply_high(estimate, error), 2))
    return estimate


def logistic(value: int, integer_bits: int) -> int:
    """Return 1 / (1 + exp(-x)) with 31 fractional bits."""
    if value == 0:
        return 1 << 30
    positive = shift_left(_reciprocal_estimate(exp_on_negative_values(-abs(value), integer_bits)), 1)
    return positive if value > 0 else _INT32_MAX - positive


def tanh(value: int, integer_bits: int) -> int:
    """Return the hyperbolic tangent with 31 fractional bits."""
    if value == 0:
        return 0
    # The same bits, read with one more integer bit, are twice the value.
    estimate = _reciprocal_estimate(exp_on_negative_values(-abs(value), integer_bits + 1))
    size = shift_left(estimate - (1 << 29), 2)
    return size if value > 0 else -size
