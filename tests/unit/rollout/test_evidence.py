"""What a stage proves."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rollout_controller.domain import failure_rate_bound


@pytest.mark.parametrize(
    ("failed", "observed", "bound"),
    [
        (0, 10, 0.2589),  # 1 - 0.05 ** (1 / 10)
        (0, 59, 0.0495),
        (5, 5, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_bound_is_the_exact_one(failed: int, observed: int, bound: float) -> None:
    assert failure_rate_bound(failed, observed) == pytest.approx(bound, abs=1e-4)


@given(st.integers(1, 40), st.integers(1, 160))
def test_at_the_bound_so_few_failures_have_a_probability_of_five_percent(failed: int, more: int) -> None:
    observed = failed + more
    bound = Fraction(failure_rate_bound(failed, observed))
    few = sum(comb(observed, k) * bound**k * (1 - bound) ** (observed - k) for k in range(failed + 1))
    assert float(few) == pytest.approx(0.05, abs=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_more_failures_never_prove_more(failed: int, more: int) -> None:
    observed = failed + more
    bound = failure_rate_bound(failed, observed)
    assert failed / max(observed, 1) <= bound <= 1
    assert failure_rate_bound(failed + 1, observed + 1) >= bound
