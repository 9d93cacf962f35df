from hypothesis import given
from hypothesis import strategies as st

from shared.bus import backoff
from shared.bus.outcomes import FIRST_DELAY_S, LONGEST_DELAY_S, SHORTEST_DELAY_S


@given(attempt=st.integers(min_value=-5, max_value=10_000))
def test_a_delay_is_never_zero_and_never_above_its_exponential_ceiling(attempt: int) -> None:
    ceiling_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(max(attempt - 1, 0), 100))
    assert SHORTEST_DELAY_S <= backoff(attempt) <= ceiling_s


@given(attempt=st.integers(min_value=1, max_value=100), longest_s=st.floats(min_value=0.05, max_value=3600))
def test_a_callers_own_ceiling_is_kept(attempt: int, longest_s: float) -> None:
    assert backoff(attempt, longest_s=longest_s) <= longest_s


def test_the_jitter_is_full_so_that_clients_which_failed_together_come_back_apart() -> None:
    delays = [backoff(8) for _ in range(2000)]
    ceiling_s = FIRST_DELAY_S * 2**7
    deciles = {int(10 * delay / ceiling_s) for delay in delays}
    assert deciles >= set(range(10))
