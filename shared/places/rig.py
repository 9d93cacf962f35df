"""A board in hand: what the agent of a place asks of it, emulated or real."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shared.lab.messages import OfferedBoard, WorkState
from shared.lab.verdict import AttemptOutcome


class RigError(RuntimeError):
    """The board, the way to it or the lab failed. The message says what was found, and what to do next."""

    def __init__(self, outcome: AttemptOutcome, said: str, report: bytes = b"") -> None:
        """Args: outcome: never passed or failed; report: what was found before, if anything."""
        super().__init__(outcome, said, report)  # all of them, because it is pickled
        self.outcome = outcome
        self.said = said
        self.report = report

    def __str__(self) -> str:
        """Return what was said."""
        return self.said


class NotAbleError(RuntimeError):
    """The rig has no means for what it was asked to do. Nothing was touched."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a program does on a board, with the bytes it needs.

    Attributes:
        workload: As `shared.procedures.workloads` writes it.
        identity: The board that it is meant for; empty: whichever hangs there.
    """

    procedure: str
    image: bytes
    workload: bytes
    deadline_s: float
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The procedure came to its end: every gate passed, or one failed."""

    passed: bool
    said: str
    report: bytes


Hear = Callable[[bytes], None]
"""Takes what the board says. To be called in the event loop's thread."""


class Rig(Protocol):
    """One board. The agent lets one holder at a time come through to it, and calls `stop` in between.

    Cancelling a call ends nothing for certain: `stop` does.
    """

    @property
    def offered(self) -> OfferedBoard:
        """The board, with what its hardware said of itself when it was last asked."""

    async def look(self) -> None:
        """Ask the hardware who it is. Never called while somebody holds the board."""

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        """Bring the image onto the board and run the procedure.

        Raises:
            RigError: it could not be brought to its end.
        """

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        """Flash `image`, then reset, then write to the console; listen to it from now on.

        Raises:
            RigError: the board does not take it.
            NotAbleError: the rig cannot.
        """

    async def stop(self) -> None:
        """End whatever goes on. No byte of it is on its way to the board any more when this returns."""
