"""Clients of the lab: programs that submit and cancel, persons who renew, vanish or come late with an old token."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from services.device_lab_scheduler.desk import Desk
from shared.bus.exchanges import RefusedError
from shared.events.lab import Health, JobKind
from shared.lab.messages import (
    AskBoards,
    AskJobs,
    Cancel,
    HealthAction,
    HeldBoard,
    JobState,
    JobView,
    RefusalKind,
    Release,
    Renew,
    SetHealth,
    Submit,
    Touch,
    Work,
)
from tests.unit.device_lab.campaign.boards import WatchedBoard
from tests.unit.device_lab.campaign.line import Line, LostError
from tests.unit.places.place_world import work

R = TypeVar("R")
RENEWS_S: Final = 3.0
PROJECTS: Final = ("gait", "voice", "ward")


@dataclass
class Clients:
    """Everybody who asks the desk.

    Attributes:
        submitted: Jobs that the desk has taken, or may have taken.
        renewed_s: When a person's renewal that the desk did not refuse was heard last, by board and token.
    """

    line: Line
    rng: random.Random
    faults: Counter[str]
    boards: dict[str, WatchedBoard]
    submitted: set[str] = field(default_factory=set)
    renewed_s: dict[tuple[str, int], float] = field(default_factory=dict)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def come(self, every_s: float) -> None:
        """Come one after the other, for ever."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / every_s))
            name = f"j{len(self.submitted):04}"
            self.submitted.add(name)
            doing = self._person(name) if self.rng.random() < 0.4 else self._program(name)
            task = asyncio.create_task(doing)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def repair(self, every_s: float) -> None:
        """Bring boards back once they are in quarantine, for ever."""
        while True:
            await asyncio.sleep(every_s)
            views = await self.insist(lambda desk: desk.boards(AskBoards()))
            for view in views.boards:
                if view.health is Health.QUARANTINED:
                    self.boards[view.name].fault = None
                    await self._bring_back(view.name)

    async def _bring_back(self, board: str) -> None:
        await asyncio.sleep(5)  # its place has looked at it, and said so
        asked = SetHealth(board=board, action=HealthAction.BRING_BACK)
        await self.insist(lambda desk: desk.set_health(asked))

    async def insist(self, request: Callable[[Desk], Awaitable[R]]) -> R:
        """Ask a desk until it answers."""
        while True:
            try:
                return await self.once(request)
            except LostError:
                await asyncio.sleep(1)

    async def once(self, request: Callable[[Desk], Awaitable[R]]) -> R:
        desks = sorted(name for name in self.line.there if name.startswith("desk"))
        return await self.line.ask(self.rng.choice(desks or ["desk"]), request)

    async def _submit(self, name: str, kind: JobKind, work_: Work | None, holder: str) -> int:
        boards = self.rng.choice([1, 1, 2])
        asked = Submit(
            id=name,
            project=self.rng.choice(PROJECTS),
            kind=kind,
            demands=("any",) * boards,
            work=(work_,) * boards if work_ else (),
            holder=holder,
            limit_s=60,
        )
        await self.insist(lambda desk: desk.submit(asked))
        return boards

    async def _program(self, name: str) -> None:
        kind = self.rng.choice([JobKind.TEST, JobKind.BENCHMARK])
        await self._submit(name, kind, work(50, name), "")
        if self.rng.random() < 0.1:
            await asyncio.sleep(self.rng.uniform(0, 60))
            self.faults["jobs cancelled"] += 1
            await self.insist(lambda desk: desk.cancel(Cancel(id=name)))

    async def _person(self, name: str) -> None:
        count = await self._submit(name, JobKind.RESERVATION, None, "ann")
        view = await self._all_held(name, count)
        if view is None:
            return
        works = asyncio.create_task(self._touch_all(view.held))
        try:
            await self._hold(view.held)
        except RefusedError:
            works.cancel()  # the lease was lost
            return
        if self.rng.random() < 0.5:
            self.faults["clients killed"] += 1
            works.cancel()
            return
        self.faults["clients that came late"] += 1
        await asyncio.sleep(self.rng.uniform(10, 40))
        works.cancel()

    async def _all_held(self, name: str, count: int) -> JobView | None:
        while True:
            (view,) = (await self.insist(lambda desk: desk.jobs(AskJobs(id=name)))).jobs
            if view.state is JobState.ENDED:
                return None
            if len(view.held) == count:
                return view
            await asyncio.sleep(2)

    async def _hold(self, held: tuple[HeldBoard, ...]) -> None:
        """Renew for a while. Some give back in the end."""
        gives_back = self.rng.random() < 0.4
        ends_s = self._now_s() + self.rng.uniform(2, 70)
        while self._now_s() < ends_s:
            for one in held:
                await self._renew(one)
            await asyncio.sleep(RENEWS_S)
        for one in held if gives_back else ():
            asked = Release(board=one.board, token=one.token)
            await self.insist(lambda desk, asked=asked: desk.release(asked))  # type: ignore[misc]

    async def _renew(self, one: HeldBoard) -> None:
        asked = Renew(board=one.board, token=one.token)

        async def renew(desk: Desk) -> HeldBoard:
            heard_s = self._now_s()
            try:
                return await desk.renew(asked)
            except RefusedError as error:
                if error.code != RefusalKind.LAB:
                    heard_s = 0.0
                raise
            finally:
                self.renewed_s[one.board, one.token] = max(heard_s, self.renewed_s.get((one.board, one.token), 0.0))

        try:
            await self.once(renew)
        except LostError:
            return  # the next time
        except RefusedError as error:
            if error.code != RefusalKind.LAB:
                raise

    async def _touch_all(self, held: tuple[HeldBoard, ...]) -> None:
        """Write with these tokens whether they still hold or not."""
        while True:
            for one in held:
                asked = Touch(board=one.board, token=one.token, write=str(one.token).encode())
                await self._touch(one.place, asked)
            await asyncio.sleep(self.rng.uniform(0.5, 3))

    async def _touch(self, place: str, asked: Touch) -> None:
        try:
            await self.line.ask(place, lambda agent: agent.touch(asked))
        except RefusedError:
            self.faults["touches refused"] += 1
        except LostError:
            return

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
