"""What came of a job's attempts. The lab's own trouble never fails a model, and a flaky pass keeps its label."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.events.lab import VerdictKind

ATTEMPTS: Final = 3
CONVINCING: Final = 2
"""Boards in good health on which a firmware has to misbehave before it is the firmware's fault."""


class AttemptOutcome(StrEnum):
    """How one attempt on one board ended."""

    PASSED = "passed"
    FAILED = "failed"
    """A gate failed; the board answered well throughout."""
    GARBAGE = "garbage"
    HANG = "hang"
    RESET_LOOP = "reset-loop"
    DISAPPEARED = "disappeared"
    SWAPPED = "swapped"
    """The board is not the one that hung there: found before anything was written."""
    LEASE_LOST = "lease-lost"
    LAB = "lab"
    """The lab's own programs: an emulator that died, a gateway that left."""


MISBEHAVIOUR: Final = frozenset({AttemptOutcome.GARBAGE, AttemptOutcome.HANG, AttemptOutcome.RESET_LOOP})
"""Either the firmware's fault or the board's: the canary, run afterwards on the same board, tells which."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try on one board.

    Attributes:
        canary_passed: What the canary said of the board afterwards; None where it was not asked.
    """

    board: str
    outcome: AttemptOutcome
    canary_passed: bool | None = None

    @property
    def blames_firmware(self) -> bool:
        """Whether the firmware misbehaved on a board that was in good health right after."""
        return self.outcome in MISBEHAVIOUR and self.canary_passed is True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind; None: not decided, to be tried again without the boards in `avoid`."""

    kind: VerdictKind | None
    avoid: frozenset[str] = frozenset()


def judge(attempts: Sequence[Attempt], *, repeatable: bool = False) -> Verdict:
    """Return what the attempts so far amount to.

    Args:
        attempts: In order; at least one.
        repeatable: The boards are deterministic, so that a failed gate would only fail again.
    """
    last = attempts[-1]
    against = {attempt.board for attempt in attempts if attempt.blames_firmware}
    failed = {attempt.board for attempt in attempts if attempt.outcome is AttemptOutcome.FAILED}
    if last.outcome is AttemptOutcome.PASSED:
        return Verdict(VerdictKind.FLAKY if against | failed else VerdictKind.PASSED)
    convincing = 1 if repeatable and failed else CONVINCING
    if len(against | failed) >= convincing:
        return Verdict(VerdictKind.FAILED)
    if len(attempts) >= ATTEMPTS:
        return Verdict(VerdictKind.FAILED if failed else VerdictKind.INFRASTRUCTURE)
    return Verdict(None, frozenset(attempt.board for attempt in attempts))
