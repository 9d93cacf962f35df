"""What procedures say of what they saw."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Check, CheckOutcome
from shared.procedures import ProcedureError, endurance, playback, smoke
from shared.procedures.acceptance import Score, score_of
from shared.procedures.endurance import Boot, EnduranceRun
from shared.procedures.playback import PlaybackRun, trace_of, windows_of
from shared.procedures.variability import Point, judge, tolerated

EXPECTED = np.array([[1, 2], [3, 4]], np.int8)
OUTPUTS = [b"\x01\x02", b"\x03\x04"]


def outcomes(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.outcome.value for check in checks}


def test_a_sensor_that_gives_nothing_fails_the_smoke_test_and_one_that_is_not_there_is_not_asked() -> None:
    said = smoke.SmokeRun("unicorn", "sha256:1", b"\x01", 10)
    assert outcomes(smoke.judge("m4", said, model_digest="sha256:1", output=b"\x01")) == {
        "model-m4": "passed",
        "golden-m4": "passed",
    }
    dead = smoke.SmokeRun("unicorn", "sha256:1", b"\x01", 10, sensed=b"")
    checks = smoke.judge("m4", dead, model_digest="sha256:1", output=b"\x01")
    assert outcomes(checks)["sensors-m4"] == "failed"
    assert checks[-1].observed == "no window arrived"


def test_a_whole_trace_with_the_references_bits_passes() -> None:
    checks = playback.judge("m4", PlaybackRun(OUTPUTS, 5, 0, 0), EXPECTED)
    assert outcomes(checks) == {"frames-m4": "passed", "windows-m4": "passed"}


@pytest.mark.parametrize(
    ("run", "frames", "windows"),
    [
        (PlaybackRun([b"\x01\x02", b"\x03\x05"], 5, 0, 0), "passed", "failed"),
        (PlaybackRun(OUTPUTS[:1], 5, 0, 0), "passed", "failed"),
        (PlaybackRun(OUTPUTS[:1], 4, 1, 1), "failed", "insufficient-evidence"),
    ],
)
def test_what_a_line_lost_is_no_fault_of_the_model(run: PlaybackRun, frames: str, windows: str) -> None:
    assert outcomes(playback.judge("m4", run, EXPECTED)) == {"frames-m4": frames, "windows-m4": windows}


@given(trace=st.binary(min_size=5, max_size=60), hop=st.integers(1, 5))
def test_a_trace_is_made_of_its_windows(trace: bytes, hop: int) -> None:
    windows = windows_of(np.frombuffer(trace, np.int8), 5, hop)
    assert len(windows) == (len(trace) - 5) // hop + 1
    assert trace.startswith(trace_of(windows, hop))
    np.testing.assert_array_equal(windows_of(np.frombuffer(trace_of(windows, hop), np.int8), 5, hop), windows)


@pytest.mark.parametrize("hop", [0, 6])
def test_a_window_moves_on_by_at_most_itself(hop: int) -> None:
    with pytest.raises(ProcedureError, match="moves on by 1 to 5 bytes"):
        windows_of(np.zeros(10, np.int8), 5, hop)


def test_a_trace_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ProcedureError, match="the trace has 4 bytes; one window has 5"):
        windows_of(np.zeros(4, np.int8), 5, 1)


def test_an_endurance_run_that_changes_nothing_passes() -> None:
    run = EnduranceRun(inferences=20, boots=[Boot(400, 400), Boot(400, 400)])
    assert set(outcomes(endurance.judge("m4", run)).values()) == {"passed"}


@pytest.mark.parametrize(
    ("run", "fails"),
    [
        (EnduranceRun(20, 1, "inference 7", [Boot(400, 400)]), "endurance-bits-m4"),
        (EnduranceRun(20, boots=[Boot(400, 408)]), "endurance-stack-m4"),
        (EnduranceRun(20, boots=[Boot(400, 400), Boot(416, 416)]), "endurance-stack-m4"),
        (EnduranceRun(20, boots=[Boot(400, 400)], fault="inference 20: hung"), "endures-m4"),
    ],
)
def test_an_endurance_run_fails_by_what_changed(run: EnduranceRun, fails: str) -> None:
    by_name = outcomes(endurance.judge("m4", run))
    assert [name for name, outcome in by_name.items() if outcome != "passed"] == [fails]


def test_an_endurance_run_of_nothing_proves_nothing() -> None:
    assert set(outcomes(endurance.judge("m4", EnduranceRun())).values()) == {"insufficient-evidence"}


def test_the_first_of_equal_outputs_is_the_answer() -> None:
    assert score_of([b"\x05\x05", b"\x80\x7f"], np.array([0, 1])) == Score(2, 2)
    assert score_of([b"\x05\x05"], np.array([1])) == Score(0, 1)


def test_an_accuracy_comes_with_its_interval() -> None:
    assert str(Score(81, 263)) == "0.3080 (81 of 263; 95 % interval 0.2553 to 0.3662)"


def test_the_tolerated_span_ends_where_accuracy_is_first_lost() -> None:
    clean = Score(90, 100)
    curve = {0.5: 88, 0.7: 50, 0.8: 86, 0.9: 90, 1.0: 90, 1.1: 85, 1.25: 84, 1.5: 90, 2.0: 20}
    points = tuple(Point("imu", "gain", level, Score(correct, 100)) for level, correct in curve.items())
    assert tolerated(points, clean) == {("imu", "gain"): (0.8, 1.1)}


def test_curves_of_a_model_that_knows_nothing_are_refused() -> None:
    assert judge("m4", Score(0, 50), None).outcome is CheckOutcome.FAILED
    assert judge("m4", Score(45, 50), 0.95).outcome is CheckOutcome.FAILED
    assert judge("m4", Score(45, 50), 0.9).outcome is CheckOutcome.PASSED
    assert judge("m4", Score(0, 0), None).outcome is CheckOutcome.INSUFFICIENT_EVIDENCE
