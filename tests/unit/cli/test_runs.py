"""Folding events into runs: the same events give the same runs, in whatever order and however often they come."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.runs import RUN_EVENTS, Outcome, Run, fold
from shared.events import Check, CheckOutcome, Event, Payload, Trigger, derived_id, envelop
from shared.events.artifact import ArtifactBuilt, BuildFailed, BuildStage
from shared.events.dataset import DatasetAdded, DatasetRole
from shared.events.device import InstallObserved, InstallOutcome
from shared.events.drift import DriftDetected, RetrainingRequested
from shared.events.lab import CandidateAccepted, CandidateRefused
from shared.events.rollout import (
    PlannedStage,
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)
from shared.events.source import Forge, SourcePushed
from shared.events.validation import DataRejected, DataValidated, ModelRejected, ModelValidated

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
COMMIT, DIGEST, OTHER = "ab" * 20, "sha256:" + "1" * 64, "sha256:" + "2" * 64
ROLLOUT = derived_id("rollout")
UNMET = Check(name="accuracy", outcome=CheckOutcome.FAILED, observed="0.4", allowed="at least 0.7")
MET = Check(name="size", outcome=CheckOutcome.PASSED, observed="1", allowed="2")


def payload(kind: type[Payload], **fields: Any) -> Payload:
    """Return a payload with the fields that a test does not care about filled in."""
    common: dict[str, Any] = {
        "project": "acme-gait",
        "digest": DIGEST,
        "commit": COMMIT,
        "trigger": Trigger.PUSH,
        "rollout_id": ROLLOUT,
        "drift_id": ROLLOUT,
        "checks": (),
        "repository": "file:///r.git",
        "ref": "refs/heads/main",
        "forge": Forge.GITHUB,
        "delivery": "d",
        "firmware": (),
        "rebuilt": True,
        "stage": BuildStage.TRAIN if kind is BuildFailed else "canary",
        "reason": "why",
        "boards": (),
        "stages": (),
        "verified": 1,
        "failed": 0,
        "seconds": 1.0,
        "failure_rate_bound": 0.5,
        "devices": 1,
        "failed_devices": (),
        "rolling_back": (),
        "restored": (),
        "by": OTHER,
        "device": "board-01",
        "gateway": "local",
        "outcome": InstallOutcome.VERIFIED,
        "wanted": DIGEST,
        "confirmed": True,
        "fencing_token": 1,
        "detector": "psi",
        "channel": 0,
        "statistic": 3.0,
        "threshold": 1.0,
        "windows": 400,
        "production": (),
    }
    wanted = {name: value for name, value in common.items() if name in kind.model_fields}
    return kind(**(wanted | fields))


class Story:
    """Events of one run, each a second after the one before."""

    def __init__(self, run: str = "run") -> None:
        self.run_id = derived_id(run)
        self.events: list[Event[Payload]] = []

    def say(self, kind: type[Payload], *, run_id: UUID | None = None, **fields: Any) -> "Story":
        number = len(self.events)
        self.events.append(
            envelop(
                payload(kind, **fields),
                event_id=derived_id(self.run_id, number),
                source="test",
                time=BEGAN + timedelta(seconds=number),
                correlation_id=run_id or self.run_id,
            )
        )
        return self

    def folded(self) -> Run:
        (run,) = fold(self.events)
        return run


def validated() -> Story:
    return Story().say(SourcePushed).say(ArtifactBuilt).say(DataValidated).say(ModelValidated)


def rolling() -> Story:
    stages = (PlannedStage(name="canary", devices=("a",)), PlannedStage(name="all", devices=("b", "c")))
    return validated().say(CandidateAccepted).say(RolloutStarted, stages=stages)


def outcomes(run: Run) -> dict[str, str]:
    return {stage.name: stage.outcome.value for stage in run.stages}


def test_a_pushed_commit_is_building() -> None:
    run = Story().say(SourcePushed).folded()
    assert outcomes(run) == {
        "build": "running",
        "data-validation": "pending",
        "model-validation": "pending",
        "lab": "pending",
        "rollout": "pending",
    }
    assert (run.trigger, run.commit, run.outcome) == (Trigger.PUSH, COMMIT, Outcome.RUNNING)


def test_a_built_release_is_with_both_validators_and_the_build_took_its_time() -> None:
    run = Story().say(SourcePushed).say(ArtifactBuilt).folded()
    assert [run.stage(name).outcome for name in ("build", "data-validation", "model-validation", "lab")] == [
        Outcome.PASSED,
        Outcome.RUNNING,
        Outcome.RUNNING,
        Outcome.PENDING,
    ]
    assert run.stage("build").seconds == 1.0
    assert run.digest == DIGEST


def test_the_lab_begins_with_the_second_verdict() -> None:
    assert Story().say(SourcePushed).say(ArtifactBuilt).say(DataValidated).folded().stage("lab").outcome == "pending"
    lab = validated().folded().stage("lab")
    assert (lab.outcome, lab.began_at) == (Outcome.RUNNING, BEGAN + timedelta(seconds=3))


def test_a_whole_run_passes_and_every_stage_has_its_seconds() -> None:
    story = rolling().say(RolloutStageCompleted).say(RolloutStageCompleted, stage="all").say(RolloutSucceeded)
    run = story.folded()
    assert run.outcome is Outcome.PASSED
    assert {stage.outcome for stage in run.stages} | {stage.outcome for stage in run.rollout} == {Outcome.PASSED}
    assert [stage.seconds for stage in run.stages] == [1.0, 1.0, 2.0, 1.0, 3.0]


def test_a_failed_build_ends_the_run_with_its_reason() -> None:
    told: dict[str, Any] = {"reason": "train.py: exit code 1", "last_lines": ("KeyError: 'x'",)}
    run = Story().say(SourcePushed).say(BuildFailed, **told).folded()
    assert (run.outcome, run.last_lines) == (Outcome.FAILED, ("KeyError: 'x'",))
    assert run.reason == "train: train.py: exit code 1"


@pytest.mark.parametrize("sandbox", [None, "bubblewrap"])
def test_a_failed_build_says_what_its_code_ran_in(sandbox: str | None) -> None:
    run = Story().say(SourcePushed).say(BuildFailed, sandbox=sandbox).folded()
    assert run.sandbox == sandbox


def test_a_rejected_model_ends_the_run_only_when_the_lab_refuses() -> None:
    story = Story().say(SourcePushed).say(ArtifactBuilt).say(ModelRejected, checks=(MET, UNMET))
    run = story.folded()
    assert run.outcome is Outcome.RUNNING
    assert run.stage("model-validation").detail == "accuracy: 0.4, allowed at least 0.7"
    run = story.say(DataValidated).say(CandidateRefused, reason="the model was rejected").folded()
    assert (run.outcome, run.reason) == (Outcome.FAILED, "the model was rejected")


def test_rejected_data_is_a_failed_stage() -> None:
    run = Story().say(SourcePushed).say(ArtifactBuilt).say(DataRejected, checks=(UNMET,)).folded()
    assert run.stage("data-validation").outcome is Outcome.FAILED


def test_the_stages_of_a_rollout_count_devices() -> None:
    story = rolling().say(InstallObserved, device="a").say(RolloutStageCompleted, verified=1)
    story.say(InstallObserved, device="b").say(InstallObserved, device="c", outcome=InstallOutcome.REVERTED)
    canary, everyone = story.folded().rollout
    assert (canary.outcome, canary.verified, canary.devices) == (Outcome.PASSED, 1, 1)
    assert (everyone.outcome, everyone.verified, everyone.failed, everyone.devices) == (Outcome.RUNNING, 1, 1, 2)


def test_a_stage_waits_for_the_one_before() -> None:
    assert [stage.outcome for stage in rolling().folded().rollout] == [Outcome.RUNNING, Outcome.PENDING]


def test_a_failed_rollout_is_over_when_the_fleet_is_back() -> None:
    story = rolling().say(RolloutFailed, failed_devices=("a",), rolling_back=("b",))
    assert story.folded().outcome is Outcome.RUNNING
    run = story.say(RolloutRolledBack, restored=("b",)).folded()
    assert (run.outcome, run.reason) == (Outcome.FAILED, "why")
    assert [stage.outcome for stage in run.rollout] == [Outcome.FAILED, Outcome.PENDING]


def test_a_failed_rollout_with_nothing_to_take_back_is_over_at_once() -> None:
    assert rolling().say(RolloutFailed).folded().outcome is Outcome.FAILED


def test_a_superseded_rollout_is_neither_passed_nor_failed() -> None:
    assert rolling().say(RolloutSuperseded).folded().outcome is Outcome.SUPERSEDED


def test_drift_begins_a_run_that_waits_for_data_first() -> None:
    story = Story().say(DriftDetected)
    run = story.folded()
    assert (run.trigger, run.stages[0].name, run.stages[0].outcome) == (Trigger.DRIFT, "collect", Outcome.RUNNING)
    assert "psi 3.00" in run.stages[0].detail
    run = story.say(RetrainingRequested).say(ArtifactBuilt, trigger=Trigger.DRIFT).folded()
    assert (run.stage("collect").outcome, run.stage("build").seconds) == (Outcome.PASSED, 1.0)


def test_a_run_whose_first_events_have_expired_is_still_told() -> None:
    run = Story().say(ArtifactBuilt, trigger=Trigger.DRIFT, rebuilt=False).say(DataValidated).folded()
    assert (run.trigger, run.commit) == (Trigger.DRIFT, COMMIT)
    assert (run.stage("build").outcome, run.stage("build").seconds) == (Outcome.PASSED, None)
    assert run.stage("build").detail == "found in the cache"


def test_a_dataset_is_no_run() -> None:
    blob = {"digest": DIGEST, "size_bytes": 1, "media_type": "x"}
    assert fold(Story().say(DatasetAdded, role=DatasetRole.PRODUCTION, blob=blob, rows=1, groups=1).events) == ()


def test_runs_are_listed_from_the_oldest() -> None:
    late, early = Story("late").say(SourcePushed).say(ArtifactBuilt), Story("early").say(SourcePushed)
    late.events = late.events[1:]
    assert [run.run_id for run in fold([*late.events, *early.events])] == [early.run_id, late.run_id]


TYPES = st.lists(st.sampled_from(RUN_EVENTS), min_size=1, max_size=14)


@given(TYPES, st.randoms(use_true_random=False))
def test_order_and_duplicates_are_harmless(types: list[type[Payload]], chance: random.Random) -> None:
    story = Story()
    for kind in types:
        story.say(kind)
    shuffled = [*story.events, *chance.sample(story.events, chance.randint(0, len(story.events)))]
    chance.shuffle(shuffled)
    assert fold(shuffled) == fold(story.events)


@given(TYPES)
def test_any_selection_of_events_is_a_run_without_contradictions(types: list[type[Payload]]) -> None:
    story = Story()
    for kind in types:
        story.say(kind)
    run = story.folded()
    assert all((stage.seconds is None) or stage.outcome.is_final for stage in run.stages)
    assert all((stage.seconds or 0) >= 0 for stage in run.stages)
    assert run.outcome is not Outcome.PASSED or run.stage("rollout").outcome is Outcome.PASSED
    assert bool(run.reason) <= (run.outcome is Outcome.FAILED)


@pytest.mark.parametrize("kind", RUN_EVENTS)
def test_every_event_of_a_run_is_told_by_itself(kind: type[Payload]) -> None:
    assert Story().say(kind).folded().project == "acme-gait"
