"""What one job of the device lab came to: the common ground of reports, signatures and history."""

from dataclasses import dataclass
from datetime import datetime

from shared.events import Check
from shared.events.lab import BoardClass, Numerics, VerdictKind


@dataclass(frozen=True, slots=True)
class JobResult:
    """One job on one board.

    Attributes:
        digest: Of the release, ``sha256:…``.
        toolchain: What compiled the firmware, with its version; instruction counts compare only within one.
        instructions: Per inference, counted; None where nothing counts them, and after an infrastructure failure.
        reason: Why it did not pass; empty when it did.
    """

    job: str
    project: str
    board: str
    board_class: BoardClass
    digest: str
    numerics: Numerics
    toolchain: str
    verdict: VerdictKind
    finished: datetime
    seconds: float
    instructions: int | None = None
    checks: tuple[Check, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a time without a zone: results of several racks are sorted by it."""
        if self.finished.tzinfo is None:
            raise ValueError(f"job {self.job}: {self.finished} has no time zone; give an aware time, such as UTC")
