"""Which message may be worked on next: same key strictly one after the other. Pure."""

import heapq
import itertools
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """One queue per key. The head of a queue is waiting, ready, running or held until a time; the rest waits."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[T]] = {}
        self._ready: deque[str] = deque()
        self._held: list[tuple[float, int, str]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def admit(self, key: str, item: T) -> None:
        """Queue `item` behind everything else with its key."""
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque([item])
            self._ready.append(key)
        else:
            lane.append(item)

    def next_ready(self, now: float) -> tuple[str, T] | None:
        """Return a head that may run, and regard it as running."""
        while self._held and self._held[0][0] <= now:
            self._ready.append(heapq.heappop(self._held)[2])
        if not self._ready:
            return None
        key = self._ready.popleft()
        return key, self._lanes[key][0]

    def finish(self, key: str) -> None:
        """The running head of `key` is done with: its successor may run."""
        lane = self._lanes[key]
        lane.popleft()
        if lane:
            self._ready.append(key)
        else:
            del self._lanes[key]

    def hold(self, key: str, until: float, item: T) -> None:
        """The running head of `key`, from now on `item`, may run again at `until`; its successors wait with it."""
        self._lanes[key][0] = item
        heapq.heappush(self._held, (until, next(self._order), key))

    def next_due(self) -> float | None:
        """Return when the next held head may run."""
        return self._held[0][0] if self._held else None
