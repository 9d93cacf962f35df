"""From traces to energy: phases, uncertainty, and traces that show no inference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.energy import PhaseError, Trace
from shared.energy.phases import measured_energy, windows_of

RATE_HZ = 10_000


def trace(
    lengths: list[int], watts: list[float], *, accuracy: float = 0.1, marks: tuple[int, ...] | None = None
) -> Trace:
    """Return low, high, low and so on, each of a length and a power."""
    level = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    power = np.repeat(np.array(watts, dtype=np.float64), lengths)
    return Trace("test", RATE_HZ, power, level if marks is None else None, marks or (), accuracy)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 2)), min_size=3, max_size=15).filter(lambda p: len(p) % 2 == 1)
)
def test_phases_are_found_and_their_energy_is_that_of_their_samples(parts: list[tuple[int, float]]) -> None:
    lengths, watts = [part[0] for part in parts], [part[1] for part in parts]
    result = measured_energy(trace(lengths, watts), len(parts) // 2)
    joules = [length * power / RATE_HZ for length, power in parts]
    assert result.windows == len(parts) // 2
    assert result.pre.energy_uj == pytest.approx(joules[0] * 1e6)
    assert result.post.energy_uj == pytest.approx(joules[-1] * 1e6)
    assert result.energy_uj * result.inferences == pytest.approx(sum(joules[1::2]) * 1e6)


def test_marks_and_pin_agree_but_for_their_uncertainty() -> None:
    lengths, watts = [100, 1000, 100], [0.001, 0.02, 0.001]
    by_pin = measured_energy(trace(lengths, watts), 10)
    by_marks = measured_energy(trace(lengths, watts, marks=(100, 1100)), 10)
    assert by_pin.energy_uj == by_marks.energy_uj
    assert by_pin.inference.uncertainty_uj < by_marks.inference.uncertainty_uj


def test_uncertainty_is_accuracy_and_edges_in_quadrature() -> None:
    result = measured_energy(trace([100, 1000, 100], [0.0, 0.02, 0.0], accuracy=0.1), 1)
    edge_uj = 0.02 / RATE_HZ / 3**0.5 * 1e6
    expected = ((2000 * 0.1 / 3**0.5) ** 2 + 2 * edge_uj**2) ** 0.5
    assert result.inference.uncertainty_uj == pytest.approx(expected)


def test_net_energy_leaves_out_what_the_board_takes_anyway() -> None:
    result = measured_energy(trace([100, 1000, 100], [0.005, 0.02, 0.005]), 1)
    assert result.net_uj == pytest.approx(0.015 * 0.1 * 1e6)


@pytest.mark.parametrize(
    ("lengths", "said"),
    [([0, 10, 10], "began while"), ([10, 10], "ended while"), ([10], "never high")],
)
def test_a_pin_that_shows_no_whole_window_is_told(lengths: list[int], said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        windows_of(trace(lengths, [1.0] * len(lengths)))


@pytest.mark.parametrize(("marks", "said"), [((5,), "1 marks"), ((5, 5), "window 1 has no sample")])
def test_marks_that_make_no_window_are_told(marks: tuple[int, ...], said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        windows_of(trace([20], [1.0], marks=marks))


@pytest.mark.parametrize("inferences", [0, 3])
def test_inferences_that_windows_cannot_share_are_refused(inferences: int) -> None:
    with pytest.raises(PhaseError, match="allowed is a multiple of the windows"):
        measured_energy(trace([5, 5, 5, 5, 5], [1.0] * 5), inferences)
