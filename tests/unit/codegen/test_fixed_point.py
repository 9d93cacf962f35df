"""gemmlowp's arithmetic, against real numbers."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.codegen import fixed_point
from services.artifact_builder.codegen.tables import softmax_exponentials, softmax_multiplier

_int32 = st.integers(-(1 << 31), (1 << 31) - 1)
_ONE = 1 << 31


@given(st.floats(1e-8, 1e8))
def test_a_multiplier_is_its_factor_to_31_bits(real: float) -> None:
    multiplier, shift = fixed_point.quantise_multiplier(real)
    assert 1 << 30 <= multiplier < _ONE
    assert math.isclose(multiplier / _ONE * 2.0**shift, real, rel_tol=2**-30)


def test_factors_out_of_range_become_zero_or_the_largest() -> None:
    assert fixed_point.quantise_multiplier(0.0) == (0, 0)
    assert fixed_point.quantise_multiplier(1e-30) == (0, 0)
    assert fixed_point.quantise_multiplier(1e30) == (_ONE - 1, 30)


def test_a_factor_just_below_a_power_of_two_carries_into_the_shift() -> None:
    assert fixed_point.quantise_multiplier(math.nextafter(1.0, 0.0)) == (1 << 30, 1)


@given(_int32, st.integers(0, 31))
def test_division_rounds_ties_away_from_zero(value: int, exponent: int) -> None:
    exact = Fraction(value, 1 << exponent)
    rounded = math.floor(abs(exact) + Fraction(1, 2)) * (1 if value >= 0 else -1)
    assert fixed_point.divide_by_power_of_two(value, exponent) == rounded


@given(_int32, st.integers(0, _ONE - 1))
def test_the_high_product_is_within_half_a_unit(a: int, b: int) -> None:
    assert abs(fixed_point.multiply_high(a, b) - Fraction(a * b, _ONE)) <= Fraction(1, 2)


@given(st.integers(-(1 << 31), 0))
def test_exp_is_exp(value: int) -> None:
    real = value / (1 << 26)
    assert fixed_point.exp_on_negative_values(value, 5) / _ONE == pytest.approx(math.exp(real), abs=1e-6)


@given(st.integers(-_ONE + 1, _ONE - 1))
def test_logistic_and_tanh_are_themselves(value: int) -> None:
    real = value / (1 << 27)
    assert fixed_point.logistic(value, 4) / _ONE == pytest.approx(1 / (1 + math.exp(-real)), abs=1e-6)
    assert fixed_point.tanh(value, 4) / _ONE == pytest.approx(math.tanh(real), abs=1e-6)


def test_softmax_exponentials_fall_from_one_to_nothing() -> None:
    table = softmax_exponentials(softmax_multiplier(0.25, 1.0))
    assert table[0] == _ONE - 1
    assert (table[1:] <= table[:-1]).all()
    assert table[-1] == 0


def test_a_scale_too_small_to_tell_inputs_apart_makes_all_exponentials_one() -> None:
    by = softmax_multiplier(1e-12, 1.0)
    assert by.shift == 0
    assert (softmax_exponentials(by) == _ONE - 1).all()
