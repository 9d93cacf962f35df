"""A place whose boards write down every byte that reaches them, and a clock that stands until it is moved."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.events import digest_of
from shared.events.lab import BoardClass
from shared.lab.messages import AskProgress, Begin, ConsoleOutput, Grant, OfferedBoard, Progress, Touch, Work, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.agent import PlaceAgent
from shared.places.rig import Ended, Hear, Order, RigError

IMAGE, WORKLOAD = b"image", b"workload"


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class PaperBoard:
    """What stands outside of the agent: a board that never ends its work by itself, and notes what reaches it."""

    name: str = "a"
    reached: list[bytes] = field(default_factory=list)
    stops: int = 0
    looks: int = 0
    answers_late: bool = False
    sticks: bool = False
    """It cannot be let go of."""
    answer: Ended | RigError | Exception | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def offered(self) -> OfferedBoard:
        return OfferedBoard(
            name=self.name, board="cortex-m4", board_class=BoardClass.PHYSICAL, identity=f"seen {self.looks}"
        )

    async def look(self) -> None:
        self.looks += 1
        if self.answers_late:
            await asyncio.Event().wait()

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        self.reached.append(order.image)
        reached(WorkState.RUNNING)
        hear(b"booted")
        await self._end.wait()
        self._end.clear()
        assert self.answer is not None
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def stopped(self, times: int) -> bool:
        return self.stops >= times

    def finish(self, answer: Ended | RigError | Exception) -> None:
        self.answer = answer
        self._end.set()

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        for part in [*([image] if image else []), *([b"RESET"] if reset else []), *(bytes([b]) for b in write)]:
            self.reached.append(part)
            self.begun.set()
            await asyncio.sleep(0)
        hear(b"echo " + write)

    async def stop(self) -> None:
        if self.sticks:
            raise OSError("the port does not close")
        self.stops += 1
        self._end.clear()


@dataclass
class World:
    clock: Clock
    boards: dict[str, PaperBoard]
    agent: PlaceAgent
    heard: list[ConsoleOutput]

    async def grant(self, token: int, ttl_s: float = 10, board: str = "a") -> None:
        await self.agent.grant(Grant(board=board, token=token, ttl_s=ttl_s))

    async def begin(self, token: int, deadline_s: float = 60, board: str = "a") -> None:
        await self.agent.begin(Begin(board=board, token=token, work=work(deadline_s)))
        await settled()

    async def write(self, token: int, data: bytes, board: str = "a") -> None:
        await self.agent.touch(Touch(board=board, token=token, write=data))

    async def progress(self, token: int, board: str = "a") -> Progress:
        return await self.agent.progress(AskProgress(board=board, token=token))

    async def outcome(self, token: int, board: str = "a") -> AttemptOutcome | None:
        return (await self.progress(token, board)).outcome


def work(deadline_s: float = 60, procedure: str = "smoke") -> Work:
    return Work(procedure=procedure, image=digest_of(IMAGE), workload=digest_of(WORKLOAD), deadline_s=deadline_s)


async def fetched(digest: str) -> bytes:
    try:
        return {digest_of(data): data for data in (IMAGE, WORKLOAD)}[digest]
    except KeyError:
        raise LookupError(f"no object {digest}") from None


async def settled() -> None:
    """Let tasks run until they wait for something outside."""
    for _ in range(20):
        await asyncio.sleep(0)


def a_place(*names: str) -> World:
    clock, heard = Clock(), list[ConsoleOutput]()
    boards = {name: PaperBoard(name) for name in names or ("a",)}
    agent = PlaceAgent("rack-1", boards.values(), fetched, clock=clock, publish=heard.append)
    return World(clock, boards, agent, heard)
