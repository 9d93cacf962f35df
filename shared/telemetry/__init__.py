"""The device wire format: `proto/edgeloop/telemetry/v1/telemetry.proto`, compiled, and what a handler receives."""

from dataclasses import dataclass
from uuid import UUID

from shared.telemetry.telemetry_pb2 import DeviceReport, Histogram, TelemetryBatch

TELEMETRY_ROOT = "edgeloop.tel"

__all__ = ["TELEMETRY_ROOT", "DeviceReport", "Histogram", "Telemetry", "TelemetryBatch", "subject_of_batch"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A batch as it came off the bus, with the id that makes a repeat recognisable."""

    id: UUID
    batch: TelemetryBatch


def subject_of_batch(project: str, gateway: str) -> str:
    """Return ``edgeloop.tel.<project>.<gateway>``."""
    return f"{TELEMETRY_ROOT}.{project}.{gateway}"
