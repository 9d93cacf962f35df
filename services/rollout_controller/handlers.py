"""What the rollout controller reacts to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from services.rollout_controller import metrics, store
from services.rollout_controller.domain import (
    Candidate,
    Decision,
    Image,
    Order,
    Policy,
    Project,
    Say,
    StageRule,
    accept_release,
    observe_device,
    observe_install,
    pass_time,
    resume,
)
from shared.events import Digest, Event, Payload, derived_id
from shared.events.device import DeviceReported, InstallObserved, InstallRelease
from shared.events.lab import CandidateAccepted
from shared.events.rollout import (
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)
from shared.releases.release import Release
from shared.runtime.handlers import Emissions, InRun, Route, Transaction, every, handles
from shared.store import BlobReader, load_index

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Deps:
    """What the handlers need."""

    blobs: BlobReader
    clock: Callable[[], datetime] = utc_now
    resumed: bool = False
    """Whether the clock has ticked since the process started."""


EMITS: Final[tuple[type[Payload], ...]] = (
    RolloutStarted,
    RolloutStageCompleted,
    RolloutSucceeded,
    RolloutFailed,
    RolloutRolledBack,
    RolloutSuperseded,
    InstallRelease,
)

Change: TypeAlias = Callable[[Project], tuple[Project, list[Decision]]]


@handles(CandidateAccepted, emits=EMITS)
async def start_rollout(event: Event[CandidateAccepted], deps: Deps, tx: Transaction) -> Emissions:
    """Plan the stages of an accepted release and order it onto the first."""
    index = await load_index(deps.blobs, event.data.digest)
    store.save_release(tx, event.data.digest, index)
    release = Release.model_validate_json(index)
    candidate = candidate_of(release, event)
    return _decide(tx, event.data.project, lambda project: accept_release(project, candidate, deps.clock()))


@handles(InstallObserved, emits=EMITS)
async def judge_install(event: Event[InstallObserved], deps: Deps, tx: Transaction) -> Emissions:
    """Count the end of an order, and draw the conclusions."""
    return _decide(
        tx, event.data.project, lambda project: observe_install(project, event.data, event.time, deps.clock())
    )


@handles(DeviceReported, emits=EMITS)
async def learn_device(event: Event[DeviceReported], deps: Deps, tx: Transaction) -> Emissions:
    """Keep the fleet registry; what is seen of a device counts for its rollout too."""
    return _decide(tx, event.data.project, lambda project: observe_device(project, event.data, deps.clock()))


@every(1.0, emits=EMITS)
async def watch_the_clock(now: datetime, deps: Deps, tx: Transaction) -> Emissions:
    """Apply deadlines, soak times and retries."""
    tick = pass_time if deps.resumed else resume
    emissions: list[InRun] = []
    for name in store.open_projects(tx):
        emissions += _decide(tx, name, lambda project: tick(project, now))
    deps.resumed = True
    return emissions


ROUTES: Final[tuple[Route, ...]] = (start_rollout, judge_install, learn_device, watch_the_clock)


def candidate_of(release: Release, event: Event[CandidateAccepted]) -> Candidate:
    """Return what the state machine needs of an accepted release."""
    digest, rules = event.data.digest, release.manifest.rollout
    return Candidate(
        rollout_id=derived_id("rollout", event.id),
        run_id=event.correlationid,
        digest=digest,
        policy=Policy(
            stages=tuple(StageRule(rule.name, rule.devices, rule.percent, rule.soak_s) for rule in rules.stages),
            failure_budget=rules.failure_budget,
            install_deadline_s=rules.install_deadline_s,
        ),
        firmware={
            firmware.board: Image(digest, firmware.image_hash.lower(), firmware.version)
            for firmware in release.firmware
        },
    )


def _decide(tx: Transaction, name: str, change: Change) -> list[InRun]:
    before = store.load_project(tx, name)
    after, decisions = change(before)
    store.save_project(tx, before, after)
    metrics.show(after)
    return [_emission(tx, after, decision) for decision in decisions]


def _emission(tx: Transaction, project: Project, decision: Decision) -> InRun:
    if isinstance(decision, Say):
        log.info("%s %s", decision.payload.TYPE, project.name, extra=decision.payload.model_dump(mode="json"))
        return InRun(decision.payload, decision.run_id)
    return InRun(_install(tx, project.name, decision), decision.run_id)


def _install(tx: Transaction, project: str, order: Order) -> InstallRelease:
    release = _release(tx, order.image.digest)
    firmware = None if release is None else release.firmware_for(order.board)
    return InstallRelease(
        project=project,
        receiver=order.gateway,
        rollout_id=order.rollout_id,
        device=order.device,
        digest=order.image.digest,
        # Firmware of unknown origin is nowhere but in the board's second slot.
        image=None if firmware is None else firmware.image,
        image_hash=order.image.image_hash,
        version=order.image.version if firmware is None else firmware.version,
        golden=None if release is None else release.golden,
        fencing_token=order.token,
        deadline_s=order.deadline_s,
    )


def _release(tx: Transaction, digest: Digest | None) -> Release | None:
    return None if digest is None else store.load_release(tx, digest)
