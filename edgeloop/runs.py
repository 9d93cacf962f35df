"""Pipeline runs as people see them, folded from the events on the bus.

Pure: the same events give the same runs, in whatever order and however often they arrive.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.bus import DeadLetterRecord
from shared.events import Check, CheckOutcome, Event, Payload, Trigger
from shared.events.artifact import ArtifactBuilt, BuildFailed, FirmwareSummary, StageTiming
from shared.events.catalogue import UnknownTypeError, decode
from shared.events.device import InstallObserved, InstallOutcome
from shared.events.drift import DriftDetected, RetrainingRequested
from shared.events.lab import BoardResult, CandidateAccepted, CandidateRefused
from shared.events.rollout import (
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)
from shared.events.source import SourcePushed
from shared.events.validation import DataRejected, DataValidated, ModelRejected, ModelValidated

RUN_EVENTS: Final[tuple[type[Payload], ...]] = (
    SourcePushed,
    DriftDetected,
    RetrainingRequested,
    ArtifactBuilt,
    BuildFailed,
    DataValidated,
    DataRejected,
    ModelValidated,
    ModelRejected,
    CandidateAccepted,
    CandidateRefused,
    RolloutStarted,
    RolloutStageCompleted,
    RolloutSucceeded,
    RolloutFailed,
    RolloutRolledBack,
    RolloutSuperseded,
    InstallObserved,
)
"""The types that a run is made of. Reports of devices are not among them: there are many, and they tell no more."""


class Outcome(StrEnum):
    """How far a run, a stage of it, or a stage of its rollout has come."""

    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        return self in (Outcome.PASSED, Outcome.FAILED, Outcome.SUPERSEDED)


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Stage(_View):
    """One step of the pipeline. `seconds` is known once the stage is over."""

    name: str
    outcome: Outcome = Outcome.PENDING
    seconds: float | None = None
    detail: str = ""
    began_at: datetime | None = None


class RolloutStage(_View):
    """One stage of the rollout; devices by what was observed of them."""

    name: str
    outcome: Outcome
    devices: int
    verified: int
    failed: int
    seconds: float | None = None


class Run(_View):
    """Everything one trigger led to."""

    run_id: UUID
    project: str
    trigger: Trigger
    began_at: datetime
    outcome: Outcome
    reason: str = ""
    """Why it failed, for people."""
    last_lines: tuple[str, ...] = ()
    """The end of what a failed step of the build printed."""
    commit: str | None = None
    digest: str | None = None
    rebuilt: bool | None = None
    stages: tuple[Stage, ...]
    build_steps: tuple[StageTiming, ...] = ()
    sandbox: str | None = None
    """What kept the repository's code apart while it was built."""
    firmware: tuple[FirmwareSummary, ...] = ()
    boards: tuple[BoardResult, ...] = ()
    rollout: tuple[RolloutStage, ...] = ()
    dead_letters: tuple[int, ...] = ()
    """Messages of this run that a service gave up on: what `edgeloop dlq show` takes."""

    def stage(self, name: str) -> Stage:
        """Return the stage called `name`."""
        return next(stage for stage in self.stages if stage.name == name)


def fold(events: Iterable[Event[Payload]]) -> tuple[Run, ...]:
    """Return the runs that `events` tell of, oldest first. Events of other kinds are passed over."""
    by_run: dict[UUID, dict[UUID, Event[Payload]]] = {}
    for event in events:
        if isinstance(event.data, RUN_EVENTS):
            by_run.setdefault(event.correlationid, {})[event.id] = event
    runs = (_Fold(list(unique.values())).run() for unique in by_run.values())
    return tuple(sorted(runs, key=lambda run: (run.began_at, str(run.run_id))))


def with_dead_letters(runs: Iterable[Run], letters: Iterable[DeadLetterRecord]) -> tuple[Run, ...]:
    """Return `runs`, each with the dead letters that belong to it; without them it would seem to go on for ever."""
    by_run: dict[UUID, list[int]] = {}
    for letter in letters:
        try:
            run_id = decode(letter.subject, letter.data).correlationid
        except (UnknownTypeError, ValidationError):
            continue  # no event, so no run: `dlq ls` lists it
        by_run.setdefault(run_id, []).append(letter.sequence)
    return tuple(run.model_copy(update={"dead_letters": tuple(by_run.get(run.run_id, ()))}) for run in runs)


P = TypeVar("P", bound=Payload)


class _Fold:
    """The events of one run, in order; answers from whichever have arrived."""

    def __init__(self, events: list[Event[Payload]]) -> None:
        self._events = sorted(events, key=lambda event: (event.time, str(event.id)))

    def run(self) -> Run:
        built, pushed, failed_build = self._last(ArtifactBuilt), self._last(SourcePushed), self._last(BuildFailed)
        accepted, refused = self._last(CandidateAccepted), self._last(CandidateRefused)
        stages = (*self._collect(), self._build(), *self._validations(), self._lab(), self._rollout())
        outcome = stages[-1].outcome if stages[-1].outcome.is_final else Outcome.RUNNING
        ended_by = next((stage for stage in reversed(stages) if stage.outcome is Outcome.FAILED), None)
        if failed_build or refused:  # a failed validation alone does not end a run: the lab then refuses
            outcome = Outcome.FAILED
        commit = next((event.data.commit for event in (pushed, built, failed_build) if event), None)
        return Run(
            run_id=self._events[0].correlationid,
            project=self._events[0].data.project,
            trigger=self._trigger(),
            began_at=self._events[0].time,
            outcome=outcome,
            reason=ended_by.detail if ended_by and outcome is Outcome.FAILED else "",
            last_lines=failed_build.data.last_lines if failed_build else (),
            commit=commit,
            digest=built.data.digest if built else None,
            rebuilt=built.data.rebuilt if built else None,
            stages=stages,
            build_steps=built.data.stages if built else (),
            sandbox=next((event.data.sandbox for event in (built, failed_build) if event), None),
            firmware=built.data.firmware if built else (),
            boards=accepted.data.boards if accepted else refused.data.boards if refused else (),
            rollout=self._rollout_stages(),
        )

    def _last(self, payload_type: type[P]) -> Event[P] | None:
        found = next((event for event in reversed(self._events) if isinstance(event.data, payload_type)), None)
        return cast("Event[P] | None", found)

    def _all(self, payload_type: type[P]) -> list[P]:
        return [event.data for event in self._events if isinstance(event.data, payload_type)]

    def _trigger(self) -> Trigger:
        for event in self._events:
            if isinstance(event.data, ArtifactBuilt | BuildFailed):
                return event.data.trigger
        from_drift = any(isinstance(event.data, DriftDetected | RetrainingRequested) for event in self._events)
        return Trigger.DRIFT if from_drift else Trigger.PUSH

    def _collect(self) -> tuple[Stage, ...]:
        """Return the stage that only a run begun by drift has: waiting for labelled production data."""
        drifted = self._last(DriftDetected)
        if drifted is None:
            return ()
        moved = f"{drifted.data.detector} {drifted.data.statistic:.2f} on channel {drifted.data.channel}"
        return (_stage("collect", drifted, self._last(RetrainingRequested), detail=moved),)

    def _build(self) -> Stage:
        requested: Event[Payload] | None = self._last(RetrainingRequested)
        pushed: Event[Payload] | None = self._last(SourcePushed)
        began, failed = requested or pushed, self._last(BuildFailed)
        if failed:
            return _stage("build", began, None, failed, detail=f"{failed.data.stage}: {failed.data.reason}")
        built = self._last(ArtifactBuilt)
        return _stage("build", began, built, detail="" if not built or built.data.rebuilt else "found in the cache")

    def _validations(self) -> tuple[Stage, Stage]:
        built = self._last(ArtifactBuilt)
        data_rejected, model_rejected = self._last(DataRejected), self._last(ModelRejected)
        return (
            _stage(
                "data-validation",
                built,
                self._last(DataValidated),
                data_rejected,
                detail=_unmet(data_rejected.data.checks) if data_rejected else "",
            ),
            _stage(
                "model-validation",
                built,
                self._last(ModelValidated),
                model_rejected,
                detail=_unmet(model_rejected.data.checks) if model_rejected else "",
            ),
        )

    def _lab(self) -> Stage:
        verdicts = (self._last(DataValidated), self._last(ModelValidated))
        began = max((verdict for verdict in verdicts if verdict), key=_time, default=None) if all(verdicts) else None
        refused = self._last(CandidateRefused)
        accepted = self._last(CandidateAccepted)
        return _stage("lab", began, accepted, refused, detail=refused.data.reason if refused else "")

    def _rollout(self) -> Stage:
        started, succeeded = self._last(RolloutStarted), self._last(RolloutSucceeded)
        failed, superseded = self._last(RolloutFailed), self._last(RolloutSuperseded)
        if superseded and not succeeded:
            stage = _stage("rollout", started, superseded, detail=f"superseded by {superseded.data.by}")
            return stage.model_copy(update={"outcome": Outcome.SUPERSEDED})
        if failed:
            returned = self._last(RolloutRolledBack)
            if failed.data.rolling_back and not returned:
                return _stage("rollout", started, None, detail=f"rolling back: {failed.data.reason}")
            return _stage("rollout", started, None, returned or failed, detail=failed.data.reason)
        looking = "" if started else "looking for devices of the project"
        accepted = self._last(CandidateAccepted)
        return _stage("rollout", started or accepted, succeeded, detail=looking if accepted else "")

    def _rollout_stages(self) -> tuple[RolloutStage, ...]:
        started = self._last(RolloutStarted)
        if started is None:
            return ()
        completed = {payload.stage: payload for payload in self._all(RolloutStageCompleted)}
        failed = self._last(RolloutFailed)
        latest = {payload.device: payload.outcome for payload in self._all(InstallObserved)}
        stages: list[RolloutStage] = []
        for planned in started.data.stages:
            outcomes = [latest[device] for device in planned.devices if device in latest]
            done = completed.get(planned.name)
            if done:
                outcome = Outcome.PASSED
            elif failed:
                outcome = Outcome.FAILED if failed.data.stage == planned.name else Outcome.PENDING
            else:
                before_is_done = all(stage.outcome is Outcome.PASSED for stage in stages)
                outcome = Outcome.RUNNING if before_is_done else Outcome.PENDING
            stages.append(
                RolloutStage(
                    name=planned.name,
                    outcome=outcome,
                    devices=len(planned.devices),
                    verified=done.verified if done else outcomes.count(InstallOutcome.VERIFIED),
                    failed=done.failed if done else sum(found in _FAILURES for found in outcomes),
                    seconds=done.seconds if done else None,
                )
            )
        return tuple(stages)


_FAILURES: Final = frozenset({InstallOutcome.REVERTED, InstallOutcome.LOST})


def _stage(
    name: str,
    began: Event[Payload] | None,
    passed: Event[Payload] | None,
    failed: Event[Payload] | None = None,
    *,
    detail: str = "",
) -> Stage:
    """Return the stage between two events; a later failure outweighs an earlier success and the other way round."""
    ended = max((event for event in (passed, failed) if event), key=_time, default=None)
    if ended:
        outcome = Outcome.FAILED if ended is failed else Outcome.PASSED
    else:
        outcome = Outcome.RUNNING if began else Outcome.PENDING
    seconds = max(0.0, (ended.time - began.time).total_seconds()) if began and ended else None
    return Stage(name=name, outcome=outcome, seconds=seconds, detail=detail, began_at=began.time if began else None)


def _time(event: Event[Payload]) -> datetime:
    return event.time


def _unmet(checks: Sequence[Check]) -> str:
    return "; ".join(
        f"{check.name}: {check.observed}, allowed {check.allowed}"
        for check in checks
        if check.outcome is not CheckOutcome.PASSED
    )
