"""In which order to handle what may have killed a process, so that its neighbours do not die with it. Pure.

The server counts a delivery for everything that was in hand when a process died, innocent or not. Suspects therefore
come last and alone, the least suspicious first. Among equals the order alternates: what was behind the culprit in one
attempt is before it in the next, so that two attempts are enough for every innocent.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class Suspects(Generic[T]):
    """Messages that were delivered before."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[int, T]] = {}

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, sequence: int, attempt: int, item: T) -> None:
        """Set a message aside; a newer delivery of the same message takes the place of the older."""
        self._items[sequence] = (attempt, item)

    def pop(self) -> T:
        """Return the one to handle next."""
        return self._items.pop(min(self._items, key=self._rank))[1]

    def all(self) -> list[T]:
        """Return everything set aside, in stream order."""
        return [self._items[sequence][1] for sequence in sorted(self._items)]

    def _rank(self, sequence: int) -> tuple[int, int]:
        attempt = self._items[sequence][0]
        return attempt, sequence if attempt % 2 == 0 else -sequence
