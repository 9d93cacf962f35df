"""How the gates of a release answer, whoever asks them."""

import math
from collections.abc import Iterable
from typing import Final

from shared.events import Check, CheckOutcome

ROUNDING: Final = 1e-9
"""0.90 - 0.87 is 0.030000000000000027: a limit that is met exactly is met."""

_Z_95: Final = 1.959963984540054


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


def explain(checks: Iterable[Check]) -> str:
    """Return the checks that did not pass as one sentence each: what was found, what is allowed, what to do."""
    return "; ".join(
        f"{check.name}: {check.observed}, allowed {check.allowed}" + (f": {check.detail}" if check.detail else "")
        for check in not_passed(checks)
    )


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927): unlike the normal one it stays within 0 and 1."""
    if rows == 0:
        return 0.0, 1.0
    share, square = correct / rows, _Z_95**2
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = _Z_95 / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return max(0.0, centre - half), min(1.0, centre + half)
