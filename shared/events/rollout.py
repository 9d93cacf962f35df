"""What the rollout controller says. The vocabulary is that of Argo Rollouts and AWS IoT Jobs."""

from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.events._base import Digest, Payload, Slug


class PlannedStage(BaseModel):
    """A stage and the devices that sticky hashing put in it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    devices: tuple[Slug, ...]


class _OfRollout(Payload):
    rollout_id: UUID
    digest: Digest


class RolloutStarted(_OfRollout):
    """Devices are about to receive a release, stage by stage."""

    TYPE: ClassVar[str] = "rollout.started.v1"

    stages: tuple[PlannedStage, ...]


class RolloutStageCompleted(_OfRollout):
    """Every device of a stage was observed running the confirmed digest."""

    TYPE: ClassVar[str] = "rollout.stage_completed.v1"

    stage: str
    verified: int
    failed: int
    seconds: float
    failure_rate_bound: float = Field(description="95 % upper bound on the failure rate that this stage proves")


class RolloutSucceeded(_OfRollout):
    """The whole fleet was observed running the confirmed digest."""

    TYPE: ClassVar[str] = "rollout.succeeded.v1"

    devices: int
    seconds: float


class RolloutFailed(_OfRollout):
    """A stage broke its failure budget; devices that had the release are being returned to the previous one."""

    TYPE: ClassVar[str] = "rollout.failed.v1"

    stage: str
    reason: str
    failed_devices: tuple[Slug, ...]
    rolling_back: tuple[Slug, ...]


class RolloutRolledBack(_OfRollout):
    """Every device that could be returned runs its previous release again."""

    TYPE: ClassVar[str] = "rollout.rolled_back.v1"

    restored: tuple[Slug, ...]
    lost: tuple[Slug, ...] = Field(default=(), description="Devices that could not be returned: look at these")


class RolloutSuperseded(_OfRollout):
    """A newer accepted release took this one's place before it was done."""

    TYPE: ClassVar[str] = "rollout.superseded.v1"

    by: Digest
