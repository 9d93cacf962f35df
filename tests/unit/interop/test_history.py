"""Series, trends and the regression gate, against any history in any order."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import CheckOutcome
from shared.events.lab import Numerics
from shared.interop.history import TOLERANCE, baseline, judge_instructions, key_of, series, trends
from shared.interop.results import JobResult
from shared.lab import VerdictKind
from tests.support_interop import job_result

COUNTS = st.integers(1, 10**9)
RESULTS = st.builds(
    job_result,
    day=st.integers(0, 30),
    job=st.uuids().map(str),
    toolchain=st.sampled_from(["zig 0.16", "zig 0.17"]),
    board=st.sampled_from(["cortex-m4", "cortex-m7"]),
    numerics=st.sampled_from(Numerics),
    verdict=st.sampled_from(VerdictKind),
    instructions=st.none() | COUNTS,
)


@pytest.mark.parametrize(
    ("instructions", "outcome"),
    [
        (1_001_000, CheckOutcome.PASSED),
        (1_001_001, CheckOutcome.FAILED),
        (999_000, CheckOutcome.PASSED),
        (500_000, CheckOutcome.PASSED),
        (None, CheckOutcome.INSUFFICIENT_EVIDENCE),
    ],
)
def test_the_gate_is_a_tenth_of_a_per_cent(instructions: int | None, outcome: CheckOutcome) -> None:
    assert judge_instructions([job_result(0)], job_result(1, instructions=instructions)).outcome is outcome


def test_a_regression_says_what_it_is_held_against() -> None:
    check = judge_instructions([job_result(0)], job_result(1, instructions=1_020_000))
    assert (check.observed, check.allowed) == ("1,020,000 instructions (+2.000%)", "1,000,000 +0.1% (job job-0)")


def test_another_toolchain_starts_a_series() -> None:
    check = judge_instructions([job_result(0)], job_result(1, toolchain="zig 0.18", instructions=9_000_000))
    assert check.outcome is CheckOutcome.PASSED
    assert "the first with zig 0.18" in check.observed


def test_a_refused_result_is_no_baseline() -> None:
    history = [job_result(0), job_result(1, instructions=2_000_000, verdict=VerdictKind.FAILED)]
    assert judge_instructions(history, job_result(2, instructions=2_000_000)).outcome is CheckOutcome.FAILED


def test_small_steps_that_pass_show_in_the_trend() -> None:
    history = [job_result(day, instructions=round(1_000_000 * 1.0009**day)) for day in range(20)]
    for day in range(1, 20):
        assert judge_instructions(history[:day], history[day]).outcome is CheckOutcome.PASSED
    (trend,) = trends(history)
    assert trend.step is not None
    assert trend.step < TOLERANCE < 0.017 < trend.since_first


@given(history=st.lists(RESULTS, max_size=12), candidate=RESULTS, seed=st.integers(0, 99))
def test_the_order_of_the_history_changes_nothing(history: list[JobResult], candidate: JobResult, seed: int) -> None:
    shuffled = Random(seed).sample(history, len(history))
    assert judge_instructions(shuffled, candidate) == judge_instructions(history, candidate)
    assert trends(shuffled) == trends(history)


@given(history=st.lists(RESULTS, max_size=12), candidate=RESULTS)
def test_the_baseline_is_the_newest_accepted_of_its_series(history: list[JobResult], candidate: JobResult) -> None:
    found = baseline(history, candidate)
    alike = [
        one
        for one in history
        if key_of(one) == key_of(candidate)
        and one.verdict.accepted
        and one.instructions is not None
        and (one.finished, one.job) < (candidate.finished, candidate.job)
    ]
    assert found == max(alike, key=lambda one: (one.finished, one.job), default=None)


@given(history=st.lists(RESULTS, max_size=12))
def test_every_accepted_count_is_in_one_series(history: list[JobResult]) -> None:
    sorted_in = [one for results in series(history).values() for one in results]
    expected = [one for one in history if one.verdict.accepted and one.instructions is not None]
    assert sorted(one.job for one in sorted_in) == sorted(one.job for one in expected)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        job_result(finished=job_result().finished.replace(tzinfo=None))
