"""The state of a project's rollouts, and what can be decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from services.rollout_controller.domain.fleet import Device, Image
from shared.events import Digest, Payload


@dataclass(frozen=True, slots=True)
class StageRule:
    """A stage as the policy describes it: a cumulative count of devices, or a cumulative percentage."""

    name: str
    devices: int | None = None
    percent: float | None = None
    soak_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Who gets a release when, and when to stop: the manifest's `rollout` section."""

    stages: tuple[StageRule, ...]
    failure_budget: float
    install_deadline_s: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage with the devices that it adds."""

    name: str
    soak_s: float
    devices: tuple[str, ...]


class TargetState(StrEnum):
    """How far a rollout got with one device."""

    WAITING = "waiting"
    """Its stage has not begun."""
    ORDERED = "ordered"
    """It may run the old image, the new one, or be between the two."""
    RETRYING = "retrying"
    """It deferred or refused: nothing was installed, and it is asked again later."""
    VERIFIED = "verified"
    """Observed running the release, confirmed."""
    REVERTED = "reverted"
    LOST = "lost"
    REFUSED = "refused"
    """It refused for the last time: left out."""
    RESTORING = "restoring"
    RESTORED = "restored"
    UNRESTORED = "unrestored"


FAILED: frozenset[TargetState] = frozenset({TargetState.REVERTED, TargetState.LOST})
LEFT_OUT: frozenset[TargetState] = FAILED | {TargetState.REFUSED}
SETTLED: frozenset[TargetState] = LEFT_OUT | {TargetState.VERIFIED}


@dataclass(frozen=True, slots=True)
class Target:
    """One device in one rollout."""

    device: str
    stage: int
    wanted: Image
    state: TargetState = TargetState.WAITING
    previous: Image | None = None
    """What a rollback returns the device to."""
    token: int = 0
    """The newest order's fencing token; 0: never ordered."""
    due_at: datetime | None = None
    """While ordered or restoring: when silence becomes a loss. While retrying: when to ask again."""
    refusals: int = 0
    attempts: int = 0
    """Orders of a rollback so far."""
    detail: str = ""


class Phase(StrEnum):
    """Where a rollout is. Three of them are ends."""

    PENDING = "pending"
    """Accepted; waits for devices, or for the end of the rollout before it."""
    RUNNING = "running"
    ROLLING_BACK = "rolling-back"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled-back"
    SUPERSEDED = "superseded"


OPEN: frozenset[Phase] = frozenset({Phase.PENDING, Phase.RUNNING, Phase.ROLLING_BACK})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that may go to the fleet."""

    rollout_id: UUID
    run_id: UUID
    digest: Digest
    policy: Policy
    firmware: Mapping[str, Image]
    """By board."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release on its way through a fleet."""

    candidate: Candidate
    phase: Phase = Phase.PENDING
    only: frozenset[str] | None = None
    """The devices it is for; None: every device there is a firmware for."""
    stages: tuple[Stage, ...] = ()
    stage: int = 0
    targets: Mapping[str, Target] = field(default_factory=dict)
    started_at: datetime | None = None
    stage_started_at: datetime | None = None
    settled_at: datetime | None = None
    """When the current stage's last device was settled: its soak counts from here."""


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that a decision about one project needs."""

    name: str
    devices: Mapping[str, Device] = field(default_factory=dict)
    active: Rollout | None = None
    pending: Rollout | None = None
    current: Candidate | None = None
    """The release that last succeeded."""
    reached: frozenset[str] = frozenset()
    """Devices that some rollout of the current release has aimed at."""
    ticked_at: datetime | None = None
    ended: tuple[Rollout, ...] = ()
    """What ended since the state was loaded."""


@dataclass(frozen=True, slots=True)
class Say:
    """Publish an event in a rollout's pipeline run."""

    run_id: UUID
    payload: Payload


@dataclass(frozen=True, slots=True)
class Order:
    """Bring a device to an image."""

    run_id: UUID
    rollout_id: UUID
    device: str
    gateway: str
    board: str
    image: Image
    token: int
    deadline_s: float


Decision: TypeAlias = Say | Order
