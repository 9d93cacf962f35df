"""How the gates of a release answer, whoever asks them."""

from collections.abc import Iterable
from typing import Final

from shared.events import Check, CheckOutcome

ROUNDING: Final = 1e-9
"""0.90 - 0.87 is 0.030000000000000027: a limit that is met exactly is met."""


def outcome(passed: bool, *, rows: int | None = None) -> CheckOutcome:
    """Return a gate's answer. Where `rows` are counted, none at all are insufficient evidence."""
    if rows == 0:
        return CheckOutcome.INSUFFICIENT_EVIDENCE
    return CheckOutcome.PASSED if passed else CheckOutcome.FAILED


def not_passed(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks that did not pass. Insufficient evidence does not pass."""
    return tuple(check for check in checks if check.outcome is not CheckOutcome.PASSED)


def passes(checks: Iterable[Check]) -> bool:
    """Return whether every check passed."""
    return not not_passed(checks)
