"""A desk over a real store, and the agents of two racks, on a line that loses what it is told to lose."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from services.device_lab_scheduler.desk import Desk
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.scheduling import Policy
from services.device_lab_scheduler.links import PlaceSilentError
from services.device_lab_scheduler.stepping import Stepper
from services.device_lab_scheduler.store import METADATA
from shared.events import Event, Payload
from shared.events.catalogue import decode
from shared.events.lab import BoardClass, JobKind
from shared.interop.signed_results import unsigned_result
from shared.lab.messages import (
    AskBoards,
    AskJobs,
    AskProgress,
    Begin,
    BoardView,
    Grant,
    JobView,
    OfferedBoard,
    Progress,
    Shut,
    Submit,
)
from shared.places.agent import PlaceAgent
from shared.places.rig import Ended
from shared.runtime.emitter import Emitter
from shared.runtime.handlers import Emissions
from shared.runtime.service import Unit
from shared.store import Outbox, OutgoingMessage, Store, inbox, outbox
from shared.store.outbox import Publish
from tests.unit.places.place_world import Clock, PaperBoard, fetched, settled, work

POLICY = Policy(grace_s=2, ttl_s=10, longest_s=60, place_ttl_s=15)
RULES = Rules(policy=POLICY)
CANARY = work(60, "canary")
WITH_CANARIES = Rules(policy=POLICY, canaries={"cortex-m4": CANARY})
PASSED = Ended(passed=True, said="", report=b'{"instructions": 1000}')
FAILED = Ended(passed=False, said="parity", report=b"{}")


@dataclass
class SerialBoard(PaperBoard):
    """A paper board that says who it is."""

    serial: str = ""

    @property
    def offered(self) -> OfferedBoard:
        return OfferedBoard(
            name=self.name,
            board="cortex-m4",
            board_class=BoardClass.PHYSICAL,
            identity=f"serial {self.serial or self.name}",
        )


@dataclass
class Line:
    """What carries requests between the desk and the racks."""

    agents: dict[str, PlaceAgent]
    down: set[str] = field(default_factory=set)
    lose_requests: int = 0
    lose_answers: int = 0
    repeats: int = 0

    async def grant(self, place: str, asked: Grant) -> None:
        await self._carry(place, lambda: self.agents[place].grant(asked))

    async def begin(self, place: str, asked: Begin) -> None:
        await self._carry(place, lambda: self.agents[place].begin(asked))

    async def progress(self, place: str, asked: AskProgress) -> Progress:
        found: list[Progress] = []

        async def ask() -> None:
            found.append(await self.agents[place].progress(asked))

        await self._carry(place, ask)
        return found[0]

    async def shut(self, place: str, asked: Shut) -> None:
        await self._carry(place, lambda: self.agents[place].shut(asked))

    async def _carry(self, place: str, deliver: Callable[[], Awaitable[object]]) -> None:
        if place in self.down:
            raise PlaceSilentError(f"{place} is away")
        if self.lose_requests:
            self.lose_requests -= 1
            raise PlaceSilentError(f"a request to {place} was lost")
        if self.repeats:
            self.repeats -= 1
            await deliver()
        await deliver()
        if self.lose_answers:
            self.lose_answers -= 1
            raise PlaceSilentError(f"an answer of {place} was lost")


async def _to_nobody(_messages: Sequence[OutgoingMessage]) -> None:
    """Where nobody listens."""


def unit_of(store: Store, publish: Publish = _to_nobody) -> Callable[[], AbstractAsyncContextManager[Unit]]:
    """Return what opens transactions as the runtime does."""
    box, emitter = Outbox(store, publish), Emitter("device_lab_scheduler")

    @asynccontextmanager
    async def open_unit() -> AsyncIterator[Unit]:
        messages: list[OutgoingMessage] = []
        now = datetime.now(UTC)
        async with store.transaction() as tx:

            def emit(emissions: Emissions, cause_id: UUID, run_id: UUID) -> None:
                messages.extend(emitter.messages(emissions, now=now, cause_id=cause_id, run_id=run_id))

            yield Unit(tx, emit)
            box.write(tx, messages, now)
        box.committed(messages)
        await box.flush()

    return open_unit


class DeskWorld:
    """Two racks of paper boards. Time stands until it is moved; a restarted desk has what the store has."""

    def __init__(
        self, rules: Rules = RULES, boards: tuple[str, ...] = ("p-1", "q-1", "q-2"), url: str = "sqlite:///:memory:"
    ) -> None:
        self.rules = rules
        self.clock = Clock(1_000_000.0)
        self.boards = {name: SerialBoard(name) for name in boards}
        self.places = sorted({name[0] for name in boards})
        self.line = Line({})
        self.store = Store(url, METADATA, inbox.METADATA, outbox.METADATA)
        self.published: dict[str, Event[Payload]] = {}
        self.repeated: list[str] = []
        for place in self.places:
            self.start_agent(place)
        self.start_desk()

    def start_agent(self, place: str) -> None:
        """Start the agent of a rack anew: it has forgotten everything, and its boards do nothing."""
        there = [board for name, board in self.boards.items() if name[0] == place]
        for board in there:
            board._end.clear()
        self.line.agents[place] = PlaceAgent(place, there, fetched, clock=self.clock)

    def start_desk(self) -> None:
        """Start the desk anew."""
        unit = unit_of(self.store, self._publish)
        self.desk = Desk(unit, self.line, self.rules, clock=self.clock, document=unsigned_result)
        self.stepper = Stepper(self.desk)

    async def _publish(self, messages: Sequence[OutgoingMessage]) -> None:
        for message in messages:
            if message.message_id in self.published:
                self.repeated.append(message.message_id)
            self.published[message.message_id] = decode(message.subject, message.body)

    async def announce(self, *places: str) -> None:
        """Let racks say that they are alive."""
        for place in places or tuple(self.places):
            if place not in self.line.down:
                await self.desk.announced(await self.line.agents[place].announced())

    async def steps(self, number: int = 4) -> None:
        """Let the desk act; racks say that they live."""
        for _ in range(number):
            await self.announce()
            await self.stepper.step()
            await settled()

    async def pass_time(self, seconds: float) -> None:
        """Let time go by: racks end what has run out."""
        self.clock.now_s += seconds
        for agent in self.line.agents.values():
            await agent.expire()
        await self.announce()

    async def submit(self, name: str, **changes: object) -> JobView:
        """Submit a job of one board with work, unless told otherwise."""
        parts: dict[str, object] = {
            "id": name,
            "project": "gait",
            "kind": JobKind.TEST,
            "demands": ("any",),
            "work": (work(50),),
            "limit_s": 60,
        }
        return await self.desk.submit(Submit.model_validate(parts | changes))

    async def reserve(self, name: str, boards: int = 1) -> JobView:
        """Submit a person's job."""
        return await self.submit(name, kind=JobKind.RESERVATION, demands=("any",) * boards, work=(), holder="ann")

    async def job(self, name: str) -> JobView:
        """Return a job as clients see it."""
        (view,) = (await self.desk.jobs(AskJobs(id=name))).jobs
        return view

    async def board(self, name: str) -> BoardView:
        """Return a board as clients see it."""
        boards = await self.desk.boards(AskBoards())
        return next(board for board in boards.boards if board.name == name)

    def said(self, kind: type[Payload]) -> list[Payload]:
        """Return what was put out of one kind, each event once."""
        return [event.data for event in self.published.values() if isinstance(event.data, kind)]

    async def close(self) -> None:
        """End everything."""
        await self.stepper.close()
        for agent in self.line.agents.values():
            await agent.close()
        self.store.close()
