"""Boards that tell an observer whose bytes reach them, and when. The observer asks nobody else."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from shared.events.lab import BoardClass
from shared.lab.messages import OfferedBoard, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.rig import Ended, Hear, Order, RigError

STOP_S: Final = 0.05
"""How long it takes until a process is gone."""
BYTE_S: Final = 1.0
"""Between two bytes of a program's work."""
CANARY: Final = "canary"
FAULTS: Final = tuple(
    AttemptOutcome(name) for name in ("garbage", "hang", "reset-loop", "disappeared", "swapped", "lab")
)


@dataclass
class Observer:
    """What was seen at the boards.

    Attributes:
        until_s: When the last grant of a token that reached the place ends, counted from then.
        seen_s: When a token's bytes reached its board last.
        wrong: What must not happen.
    """

    clock: Callable[[], float]
    until_s: dict[tuple[str, int], float] = field(default_factory=dict)
    seen_s: dict[tuple[str, int], float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    touched: int = 0
    _newest: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _users: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def granted(self, board: str, token: int, ttl_s: float) -> None:
        key = board, token
        self.until_s[key] = max(self.until_s.get(key, 0.0), self.clock() + ttl_s)

    def byte(self, board: str, token: int) -> None:
        now_s = self.clock()
        self.touched += 1
        self._users[board].add(token)
        if len(self._users[board]) > 1:
            self.wrong.append(f"{now_s:.1f} s: two holders of {board}: tokens {sorted(self._users[board])}")
        if token < self._newest[board]:
            self.wrong.append(f"{now_s:.1f} s: a late byte of token {token} at {board} after {self._newest[board]}")
        if now_s > self.until_s.get((board, token), 0.0) + STOP_S:
            self.wrong.append(f"{now_s:.1f} s: token {token} at {board} beyond its lease")
        self._newest[board] = max(self._newest[board], token)
        self.seen_s[board, token] = now_s

    def let_go(self, board: str) -> None:
        self._users[board].clear()


@dataclass
class WatchedBoard:
    """A board whose work goes on until it ends or `stop` returns, whatever happens to who waits for it.

    Attributes:
        fault: What is wrong with it until somebody repairs it: its jobs and its canary end so.
        tokens: Under which token each procedure was begun last.
    """

    name: str
    observer: Observer
    rng: random.Random
    fault: AttemptOutcome | None = None
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _worker: "asyncio.Task[None] | None" = None

    @property
    def offered(self) -> OfferedBoard:
        serial = {AttemptOutcome.DISAPPEARED: "", AttemptOutcome.SWAPPED: f"another {self.name}"}
        identity = f"serial {self.name}" if self.fault is None else serial.get(self.fault, f"serial {self.name}")
        return OfferedBoard(name=self.name, board="cortex-m4", board_class=BoardClass.PHYSICAL, identity=identity)

    async def look(self) -> None:
        await asyncio.sleep(STOP_S)

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        if self.fault is AttemptOutcome.SWAPPED:
            raise RigError(AttemptOutcome.SWAPPED, f"found another {self.name}")  # before anything is written
        short = order.procedure == CANARY
        seconds = self.rng.uniform(1, 3) if short else self.rng.uniform(3, 40)
        self._worker = asyncio.create_task(self._write(self.tokens[order.procedure], seconds))
        worker = self._worker
        await asyncio.sleep(min(seconds, 2.0))
        reached(WorkState.RUNNING)
        hear(b"booted")
        await asyncio.wait([worker])
        if worker.cancelled():
            raise RigError(AttemptOutcome.LAB, "its worker process was killed")
        if self.fault is not None:
            raise RigError(self.fault, f"{self.name}: {self.fault}")
        return Ended(passed=True, said="", report=b"{}")

    async def _write(self, token: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + seconds
        while loop.time() < ends_s:
            self.observer.byte(self.name, token)
            await asyncio.sleep(min(BYTE_S, ends_s - loop.time()))

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        assert not reset
        assert image is None
        for _ in range(3):
            self.observer.byte(self.name, int(write))
            await asyncio.sleep(STOP_S / 5)
        hear(b"echo")

    async def stop(self) -> None:
        await asyncio.sleep(STOP_S * self.rng.random())
        await self.killed()

    async def killed(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker
        self.observer.let_go(self.name)
