"""What the drift monitor says."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.events._base import Blob, Digest, Payload


class DriftDetected(Payload):
    """What the boards see has moved away from what the release was trained on. Said once per drift."""

    TYPE: ClassVar[str] = "drift.detected.v1"

    drift_id: UUID
    digest: Digest
    detector: str = Field(description="For example psi")
    channel: int = Field(ge=0, description="The input channel that moved most")
    statistic: float
    threshold: float
    windows: int = Field(description="Inferences behind the statistic")
    devices: int = Field(description="Devices behind the statistic")


class RetrainingRequested(Payload):
    """Train the release's commit again, with production data beside its own."""

    TYPE: ClassVar[str] = "drift.retraining_requested.v1"

    drift_id: UUID
    digest: Digest = Field(description="The release that drifted")
    production: tuple[Blob, ...]
