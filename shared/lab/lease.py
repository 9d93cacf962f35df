"""Leases, and the fence that keeps a late holder's bytes from the board."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from shared.events.lab import JobKind

_SHUT: Final = float("-inf")
"""The deadline of a lease that was given back."""


class LeaseLostError(RuntimeError):
    """The lease was not renewed in time, was given back, or belongs to somebody else now."""


class StaleTokenError(LeaseLostError):
    """Somebody touched a board whose lease had ended. The bytes were dropped."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One board, held by one job.

    Attributes:
        token: Grows with every lease of this board, over restarts too.
        deadline_s: Until then, unless renewed.
        cap_s: No renewal reaches further.
        flashing: Its image is being written: it is never preempted then.
        preemptible: A benchmark that has not yet had to leave too often.
    """

    board: str
    job: str
    project: str
    kind: JobKind
    holder: str
    token: int
    granted_s: float
    deadline_s: float
    cap_s: float
    flashing: bool = False
    preemptible: bool = True


@dataclass(frozen=True, slots=True)
class Fence:
    """What stands between holders and boards: at the lab's bench, and in every gateway.

    It is told of each grant and renewal before the holder is, so that a new holder shuts the former one out even
    before its own first byte. Values are (token, deadline) by board.
    """

    grants: Mapping[str, tuple[int, float]] = field(default_factory=lambda: MappingProxyType({}))

    def grant(self, board: str, token: int, deadline_s: float) -> "Fence":
        """Return the fence after a grant or renewal. One that comes after a newer one or its end opens nothing."""
        known, until_s = self.grants.get(board, (0, 0.0))
        if token < known or (token == known and (until_s == _SHUT or deadline_s <= until_s)):
            return self
        return replace(self, grants=MappingProxyType({**self.grants, board: (token, deadline_s)}))

    def shut(self, board: str, token: int) -> "Fence":
        """Return the fence after that lease was given back: its token is good for nothing more, even granted again."""
        known, _ = self.grants.get(board, (0, 0.0))
        if token < known:
            return self
        return replace(self, grants=MappingProxyType({**self.grants, board: (token, _SHUT)}))

    def admit(self, board: str, token: int, now_s: float) -> None:
        """Let whoever shows `token` touch the board.

        Raises:
            StaleTokenError: the token is not the board's newest, or its time is over.
        """
        known, deadline_s = self.grants.get(board, (0, _SHUT))
        if token != known:
            raise StaleTokenError(
                f"{board}: found token {token}, allowed is {known or 'none: nobody holds it'}. "
                "Next: ask for a new lease; another holder may be working"
            )
        if now_s >= deadline_s:
            late = f"{now_s - deadline_s:.1f} s ago" if deadline_s != _SHUT else "when it was given back"
            raise StaleTokenError(
                f"{board}: the lease with token {token} ended {late}. Next: ask for a new one, and renew it in time"
            )
