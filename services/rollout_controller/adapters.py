"""What the handlers need from outside: the object store and a clock."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class BlobReader(Protocol):
    """The object store, for reading."""

    async def get(self, digest: str) -> bytes:
        """Return the bytes with that digest."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass
class Deps:
    """The rollout controller's dependencies."""

    blobs: BlobReader
    clock: Callable[[], datetime] = utc_now
    resumed: bool = False
    """Whether the clock has ticked since the process started."""
