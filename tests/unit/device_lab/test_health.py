"""Health and verdicts: the board is blamed for what the board did, and the model for what the model did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.device_lab_scheduler.domain.health import (
    NEW,
    HealthPolicy,
    Record,
    Seen,
    after,
    canary_due,
    identity_trouble,
    seen_in,
)
from shared.lab import Attempt, AttemptOutcome, Health, VerdictKind, judge

POLICY = HealthPolicy(canary_jobs=3, canary_s=100, probation_passes=2, strikes=2)
GOOD = Record(Health.GOOD, canary_s=0.0, reason="")


def seen(record: Record, *observations: Seen, now_s: float = 1) -> Record:
    for observation in observations:
        record = after(record, observation, now_s, POLICY)
    return record


def test_a_new_board_runs_the_canary_until_it_is_trusted() -> None:
    assert canary_due(NEW, 0, POLICY)
    once = seen(NEW, Seen.CANARY_PASSED)
    assert (once.health, canary_due(once, 1, POLICY)) == (Health.PROBATION, True)
    twice = seen(once, Seen.CANARY_PASSED)
    assert (twice.health, canary_due(twice, 1, POLICY)) == (Health.GOOD, False)


def test_the_canary_is_due_again_after_some_jobs_or_some_time() -> None:
    assert not canary_due(seen(GOOD, Seen.JOB_ENDED, Seen.JOB_ENDED), 99, POLICY)
    assert canary_due(seen(GOOD, *[Seen.JOB_ENDED] * 3), 1, POLICY)
    assert canary_due(GOOD, 100, POLICY)


def test_a_suspect_is_cleared_or_quarantined_by_the_canary() -> None:
    suspect = seen(GOOD, Seen.MISBEHAVED)
    assert suspect.health is Health.SUSPECT
    assert canary_due(suspect, 1, POLICY)
    assert seen(suspect, Seen.CANARY_PASSED).health is Health.GOOD
    assert seen(suspect, Seen.CANARY_FAILED).health is Health.QUARANTINED
    assert seen(GOOD, Seen.LEFT_ALONE).health is Health.SUSPECT


def test_a_board_that_misbehaves_again_and_again_is_quarantined_though_its_canary_passes() -> None:
    again = seen(GOOD, Seen.MISBEHAVED, Seen.CANARY_PASSED, Seen.MISBEHAVED)
    assert (again.health, again.reason) == (Health.QUARANTINED, "misbehaved 2 times, last: unknown")
    healthy = [Seen.JOB_ENDED] * 3
    forgiven = seen(GOOD, Seen.MISBEHAVED, Seen.CANARY_PASSED, *healthy, Seen.CANARY_PASSED, Seen.MISBEHAVED)
    assert forgiven.health is Health.SUSPECT


@pytest.mark.parametrize("outcome", [AttemptOutcome.DISAPPEARED, AttemptOutcome.SWAPPED])
def test_a_board_that_is_not_what_it_was_is_quarantined_at_once(outcome: AttemptOutcome) -> None:
    assert seen(GOOD, seen_in(outcome)).health is Health.QUARANTINED


def test_identity_is_judged_before_anything_is_written() -> None:
    assert identity_trouble("sn1", "sn1") is None
    assert identity_trouble("", "sn1") is None
    assert identity_trouble("sn1", "sn2") is AttemptOutcome.SWAPPED
    assert identity_trouble("sn1", "") is AttemptOutcome.DISAPPEARED


def test_people_take_boards_out_and_bring_them_back_on_probation() -> None:
    out = seen(GOOD, Seen.TAKEN_OUT)
    assert (out.health, canary_due(out, 1, POLICY)) == (Health.MAINTENANCE, False)
    assert seen(out, Seen.BROUGHT_BACK).health is Health.PROBATION
    assert seen(GOOD, Seen.BROUGHT_BACK) == GOOD
    assert seen(out, Seen.RETIRED, Seen.BROUGHT_BACK).health is Health.RETIRED


@given(st.lists(st.sampled_from(Seen), max_size=30))
def test_only_people_end_a_quarantine_and_nothing_ends_a_retirement(observations: list[Seen]) -> None:
    record = NEW
    for observation in observations:
        before, record = record, after(record, observation, 1, POLICY)
        if before.health is Health.RETIRED:
            assert record == before
        if before.health in (Health.QUARANTINED, Health.MAINTENANCE) and record.health is not before.health:
            assert observation in (Seen.TAKEN_OUT, Seen.BROUGHT_BACK, Seen.RETIRED)
        if record.health is Health.GOOD and before.health is not Health.GOOD:
            assert observation is Seen.CANARY_PASSED
        assert record.reason or record.health is Health.GOOD


def on(name: str, outcome: AttemptOutcome, canary_passed: bool | None = None) -> Attempt:
    return Attempt(name, outcome, canary_passed)


@pytest.mark.parametrize(
    ("attempts", "kind"),
    [
        ([on("a", AttemptOutcome.PASSED)], VerdictKind.PASSED),
        ([on("a", AttemptOutcome.FAILED), on("b", AttemptOutcome.PASSED)], VerdictKind.FLAKY),
        ([on("a", AttemptOutcome.HANG, True), on("b", AttemptOutcome.PASSED)], VerdictKind.FLAKY),
        ([on("a", AttemptOutcome.HANG, False), on("b", AttemptOutcome.PASSED)], VerdictKind.PASSED),
        ([on("a", AttemptOutcome.FAILED)], None),
        ([on("a", AttemptOutcome.FAILED), on("b", AttemptOutcome.FAILED)], VerdictKind.FAILED),
        ([on("a", AttemptOutcome.HANG, True), on("b", AttemptOutcome.HANG, True)], VerdictKind.FAILED),
        ([on("a", AttemptOutcome.HANG, False)] * 3, VerdictKind.INFRASTRUCTURE),
        ([on("a", AttemptOutcome.HANG)] * 3, VerdictKind.INFRASTRUCTURE),
        ([on("a", AttemptOutcome.LAB)] * 3, VerdictKind.INFRASTRUCTURE),
        ([on("a", AttemptOutcome.SWAPPED), on("b", AttemptOutcome.DISAPPEARED)], None),
    ],
)
def test_attempts_amount_to_a_verdict(attempts: list[Attempt], kind: VerdictKind | None) -> None:
    assert judge(attempts).kind is kind


def test_a_failed_gate_on_deterministic_boards_is_final() -> None:
    assert judge([on("a", AttemptOutcome.FAILED)], repeatable=True).kind is VerdictKind.FAILED


TROUBLE = [o for o in AttemptOutcome if o not in (AttemptOutcome.PASSED, AttemptOutcome.FAILED)]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(TROUBLE), st.sampled_from([None, False])), min_size=1)
)
def test_trouble_of_the_lab_never_fails_a_model(attempts: list[tuple[str, AttemptOutcome, bool | None]]) -> None:
    verdict = judge([Attempt(*attempt) for attempt in attempts])
    assert verdict.kind in (None, VerdictKind.INFRASTRUCTURE)
    assert verdict.kind is VerdictKind.INFRASTRUCTURE or {name for name, _, _ in attempts} == verdict.avoid
