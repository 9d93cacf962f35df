"""Messages to an agent come late, twice and in any order, and it is killed in between: no late byte gets through."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.bus.exchanges import RefusedError
from shared.events.lab import BoardClass
from shared.lab.messages import AskProgress, Begin, Grant, OfferedBoard, Shut, Touch, WorkState
from shared.places.agent import PlaceAgent
from shared.places.rig import Ended, Hear, Order
from tests.unit.places.place_world import Clock, fetched, work

M = TypeVar("M")
WHICH = st.sampled_from([0, 0, 0, 0, 1, -1])
"""A token, counted from the newest that was ever sent."""
WRITTEN = 4
"""Bytes a write has; each is its token's number, and takes a step of the loop."""


class Watched:
    """A board that knows whose bytes may still come."""

    def __init__(self) -> None:
        self.dead: set[int] = set()
        self.late: list[int] = []
        self.arrived = 0
        self.users: set[int] = set()
        self.crowded = False
        self.let_end = asyncio.Event()

    @property
    def offered(self) -> OfferedBoard:
        return OfferedBoard(name="a", board="cortex-m4", board_class=BoardClass.PHYSICAL)

    async def look(self) -> None:
        for _ in range(WRITTEN):
            self.crowded |= bool(self.users)
            await asyncio.sleep(0)

    def _byte(self, token: int) -> None:
        self.users.add(token)
        self.crowded |= len(self.users) > 1
        self.arrived += 1
        if token in self.dead:
            self.late.append(token)

    async def work(self, order: Order, _hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        self._byte(int(order.identity))
        reached(WorkState.RUNNING)
        while not self.let_end.is_set():
            await asyncio.sleep(0)
            self._byte(int(order.identity))
        return Ended(passed=True, said="", report=b"")

    async def touch(self, write: bytes, _hear: Hear, *, reset: bool, image: bytes | None) -> None:
        assert not reset
        assert image is None
        for token in write:
            self._byte(token)
            await asyncio.sleep(0)

    async def stop(self) -> None:
        await asyncio.sleep(0)  # a process is not gone at once
        self.users.clear()


class Messages(RuleBasedStateMachine):
    """Everything that may be asked of an agent, at any time and again."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.board = Watched()
        self.agent = PlaceAgent("p", [self.board], fetched, clock=self.clock)
        self.on_the_way: list[asyncio.Task[None]] = []
        self.until_s: dict[int, float] = {}
        self.newest = 1
        self.gone = 0
        """No token up to this one is let in again."""

    def teardown(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def _send(
        self, ask_agent: Callable[[M], Awaitable[object]], message: M, then: Callable[[], None] = lambda: None
    ) -> None:
        async def ask() -> None:
            try:
                await ask_agent(message)
            except RefusedError:
                return
            then()

        self.on_the_way.append(self.loop.create_task(ask()))

    async def _settle(self) -> None:
        await asyncio.gather(*self.on_the_way)
        self.on_the_way.clear()

    def _token(self, which: int) -> int:
        token = max(1, self.newest + which)
        self.newest = max(self.newest, token)
        return token

    def _bury(self, last: int) -> None:
        self.gone = max(self.gone, last)
        self.board.dead.update(range(self.gone + 1))

    @rule(which=WHICH, ttl_s=st.sampled_from([2.0, 5.0]))
    def grant(self, which: int, ttl_s: float) -> None:
        token = self._token(which)
        if token > self.gone:
            self.board.dead.discard(token)
        self.until_s[token] = max(self.until_s.get(token, 0.0), self.clock.now_s + ttl_s)
        self._send(self.agent.grant, Grant(board="a", token=token, ttl_s=ttl_s), lambda: self._bury(token - 1))

    @rule()
    def start_a_job(self) -> None:
        self.grant(1, 5.0)
        self.begin(0)

    @rule(ttl_s=st.sampled_from([2.0, 5.0]))
    def start_at_the_console(self, ttl_s: float) -> None:
        self.grant(1, ttl_s)
        self.write(0, 2)

    @rule(which=WHICH)
    def shut(self, which: int) -> None:
        token = self._token(which)
        self._send(self.agent.shut, Shut(board="a", token=token), lambda: self._bury(token))

    @rule(which=WHICH, times=st.integers(1, 3))
    def write(self, which: int, times: int) -> None:
        token = self._token(which)
        for _ in range(times):
            self._send(self.agent.touch, Touch(board="a", token=token, write=bytes([token]) * WRITTEN))

    @rule(which=WHICH)
    def begin(self, which: int) -> None:
        token = self._token(which)
        wanted = work().model_copy(update={"identity": str(token)})
        self._send(self.agent.begin, Begin(board="a", token=token, work=wanted))

    @rule()
    def look(self) -> None:
        self.on_the_way.append(self.loop.create_task(self.agent.look_around()))

    @rule(steps=st.integers(1, 7))
    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule(seconds=st.sampled_from([1.0, 3.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.loop.run_until_complete(self._settle())
        self.clock.now_s += seconds
        self.loop.run_until_complete(self.agent.expire())
        self.board.dead.update(token for token, until_s in self.until_s.items() if until_s <= self.clock.now_s)

    @rule()
    def let_work_end(self) -> None:
        self.board.let_end.set()
        self.go_on(5)
        self.board.let_end.clear()

    @rule()
    def kill_the_agent(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.go_on(2)
        self.on_the_way.clear()
        self.board.users.clear()
        self.until_s.clear()
        self.gone = 0
        self.board.dead = set(range(256))  # until the new one grants something
        self.agent = PlaceAgent("p", [self.board], fetched, clock=self.clock)

    @precondition(lambda self: self.until_s)
    @rule()
    def the_holder_gets_through(self) -> None:
        self.loop.run_until_complete(self._settle())
        token = max(self.until_s)
        if token <= self.gone or self.until_s[token] <= self.clock.now_s:
            return
        progress = self.loop.run_until_complete(self.agent.progress(AskProgress(board="a", token=token)))
        if progress.state in (WorkState.FLASHING, WorkState.RUNNING):
            return
        before = self.board.arrived
        self.loop.run_until_complete(self.agent.touch(Touch(board="a", token=token, write=bytes([token]) * WRITTEN)))
        assert self.board.arrived == before + WRITTEN

    @invariant()
    def nobody_comes_late(self) -> None:
        assert not self.board.late

    @invariant()
    def nobody_comes_while_somebody_else_is_there(self) -> None:
        assert not self.board.crowded


TestMessages = Messages.TestCase
TestMessages.settings = settings(max_examples=60, stateful_step_count=40)
