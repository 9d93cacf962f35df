"""How the handling of an event ends: for a handler (return, `Retry`, `Reject`), and for the runner under it."""

import random
from dataclasses import dataclass
from typing import Final, TypeAlias

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 300.0
SHORTEST_DELAY_S: Final = 0.05
"""A nak without a delay is delivered again at once: one poison message would keep a core busy."""


class Retry(Exception):  # noqa: N818 - an outcome, not an error
    """Not now: deliver the event again later. Counted; after the handler's last attempt it is a dead letter."""

    def __init__(self, reason: str, *, delay_s: float | None = None) -> None:
        """Args: reason: for logs and the dead letter. delay_s: else exponential backoff with jitter."""
        super().__init__(reason)
        self.reason = reason
        self.delay_s = delay_s


class Unavailable(Exception):  # noqa: N818 - an outcome, not an error
    """Nothing can be handled here now, this event or another: repeat it in place until that passes. Never counted."""


class Reject(Exception):  # noqa: N818 - an outcome, not an error
    """Never: this event cannot be handled by this code. It becomes a dead letter at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Done:
    """Handled, and its effects are committed: acknowledge."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Deliver again after a delay; on the last attempt of the consumer this becomes a dead letter."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Move to the dead-letter stream."""

    reason: str


Outcome: TypeAlias = Done | RetryLater | DeadLetter

DONE: Final = Done()


def backoff(attempt: int, *, first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S) -> float:
    """Return the seconds to wait after failed attempt number `attempt`, counted from one: exponential, full jitter.

    Full jitter spreads the retries of many clients that failed together evenly
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    ceiling_s = min(longest_s, first_s * 2 ** min(max(attempt, 1) - 1, 63))
    return max(SHORTEST_DELAY_S, random.uniform(0, ceiling_s))  # noqa: S311 - spreads load, guards nothing
