"""The line between desk, places and clients: it loses, delays and repeats, and forgets all in an outage."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from services.device_lab_scheduler.links import PlaceSilentError
from shared.bus.exchanges import RefusedError
from shared.lab.messages import AskProgress, Begin, Grant, Progress, Shut
from shared.places.agent import PlaceAgent
from tests.unit.device_lab.campaign.boards import Observer, WatchedBoard

R = TypeVar("R")
T = TypeVar("T")
PATIENCE_S: Final = 1.5
LATEST_S: Final = 3.0
"""How long a message is under way at most."""


class LostError(RuntimeError):
    """No answer came. Whether it was heard is unknown."""


@dataclass
class Line:
    """Carries what is asked to whoever is there when it arrives.

    Attributes:
        down: Who is not reached; "" is everybody.
        worst: What part of the messages is lost, delayed and repeated.
    """

    rng: random.Random
    faults: Counter[str]
    there: dict[str, Any] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    worst: float = 0.05
    _outages: int = 0
    _inside: dict[str, set["asyncio.Task[None]"]] = field(default_factory=lambda: defaultdict(set))
    _flying: set["asyncio.Task[None]"] = field(default_factory=set)

    async def ask(self, name: str, request: Callable[[Any], Awaitable[R]]) -> R:
        """Ask whoever is there under that name. Raises LostError, or what was answered."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._send(name, request, answer)
        if self._happens("repeated"):
            self._send(name, request, answer)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(answer)
        except TimeoutError:
            raise LostError(f"{name} did not answer") from None
        finally:
            answer.cancel()

    def tell(self, name: str, request: Callable[[Any], Awaitable[object]]) -> None:
        """Ask, and wait for no answer."""
        self._send(name, request, asyncio.get_running_loop().create_future())

    async def outage(self, seconds: float) -> None:
        """Lose all that is under way, and carry nothing for a while."""
        self._outages += 1
        await self.away("", seconds)
        self._outages += 1

    async def away(self, name: str, seconds: float) -> None:
        """Let somebody not be reached for a while."""
        self.down.add(name)
        await asyncio.sleep(seconds)
        self.down.discard(name)

    async def killed(self, name: str) -> None:
        """What it was doing ends in the middle."""
        self.there.pop(name, None)
        inside = self._inside.pop(name, set())
        for task in inside:
            task.cancel()
        await asyncio.gather(*inside, return_exceptions=True)

    async def close(self) -> None:
        for task in self._flying:
            task.cancel()
        await asyncio.gather(*self._flying, return_exceptions=True)

    def _happens(self, fault: str) -> bool:
        happens = self.rng.random() < self.worst
        self.faults[f"messages {fault}"] += happens
        return happens

    def _send(self, name: str, request: Callable[[Any], Awaitable[T]], answer: "asyncio.Future[T]") -> None:
        task = asyncio.create_task(self._fly(name, request, answer))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

    async def _fly(self, name: str, request: Callable[[Any], Awaitable[T]], answer: "asyncio.Future[T]") -> None:
        if not await self._arrives(name) or name not in self.there:
            return
        task = asyncio.current_task()
        assert task is not None
        inside = self._inside[name]
        inside.add(task)
        found: T | RefusedError
        try:
            found = await request(self.there[name])
        except RefusedError as error:
            found = error
        finally:
            inside.discard(task)
        if not await self._arrives(name) or answer.done():
            return
        if isinstance(found, RefusedError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    async def _arrives(self, name: str) -> bool:
        outages = self._outages
        late = self._happens("delayed")
        await asyncio.sleep(self.rng.uniform(0.2, LATEST_S) if late else 0.01 * self.rng.random())
        if outages != self._outages or {name, ""} & self.down:
            return False
        return not self._happens("lost")


@dataclass
class Places:
    """The desk's link: what it says to places, over the line. The observer hears it when it arrives."""

    line: Line
    observer: Observer
    boards: dict[str, WatchedBoard]

    async def grant(self, place: str, asked: Grant) -> None:
        async def arrive(agent: PlaceAgent) -> None:
            self.observer.granted(asked.board, asked.token, asked.ttl_s)
            await agent.grant(asked)

        await self._ask(place, arrive)

    async def begin(self, place: str, asked: Begin) -> None:
        async def arrive(agent: PlaceAgent) -> None:
            tokens = self.boards[asked.board].tokens
            tokens[asked.work.procedure] = max(tokens[asked.work.procedure], asked.token)
            await agent.begin(asked)

        await self._ask(place, arrive)

    async def progress(self, place: str, asked: AskProgress) -> Progress:
        return await self._ask(place, lambda agent: agent.progress(asked))

    async def shut(self, place: str, asked: Shut) -> None:
        await self._ask(place, lambda agent: agent.shut(asked))

    async def _ask(self, place: str, request: Callable[[PlaceAgent], Awaitable[R]]) -> R:
        try:
            return await self.line.ask(place, request)
        except LostError as error:
            raise PlaceSilentError(str(error)) from error
