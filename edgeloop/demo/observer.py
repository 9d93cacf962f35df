"""What the demo knows of the world: the runs and the fleet, from events alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from edgeloop.errors import EdgeloopError, InfrastructureError
from edgeloop.events import connected, follow
from edgeloop.runs import RUN_EVENTS, Run, fold
from shared.bus import DLQ
from shared.events import Event, Payload
from shared.events.dataset import DatasetAdded
from shared.events.device import DeviceReported, DeviceState

OBSERVED: Final[tuple[type[Payload], ...]] = (*RUN_EVENTS, DeviceReported, DatasetAdded)

T = TypeVar("T")


@dataclass(slots=True)
class Observed:
    """The state of things; folded again with every batch of events."""

    runs: tuple[Run, ...] = ()
    fleet: dict[str, DeviceReported] = field(default_factory=dict)
    dead_letters: int = 0

    def run_of(self, trigger: str) -> Run | None:
        """Return the newest run with that trigger."""
        return next((run for run in reversed(self.runs) if run.trigger == trigger), None)

    def confirmed_on(self, digest: str | None) -> int:
        """Return how many boards were observed running that release, confirmed."""
        return sum(
            report.state is DeviceState.CONFIRMED and report.digest == digest and digest is not None
            for report in self.fleet.values()
        )


class Observer:
    """Follows the bus in the background; `until` waits for what the demo wants to see."""

    def __init__(self, on_change: Callable[[Observed], None]) -> None:
        self.observed = Observed()
        self._on_change = on_change
        self._events: list[Event[Payload]] = []
        self._changed = asyncio.Condition()
        self._failure: BaseException | None = None

    async def until(self, what: str, found: Callable[[Observed], T | None], *, deadline_s: float) -> T:
        """Return what `found` finds, as soon as it finds something.

        Raises:
            EdgeloopError: from `found`, to give up at once.
            InfrastructureError: nothing was found within `deadline_s`, a service gave up on a message, or the bus went.
        """
        try:
            async with asyncio.timeout(deadline_s), self._changed:
                while True:
                    if self._failure:
                        raise self._failure
                    result = found(self.observed)
                    if result is not None:
                        return result
                    if self.observed.dead_letters:
                        raise InfrastructureError(
                            f"while waiting for {what}: {self.observed.dead_letters} messages could not be handled"
                        )
                    await self._changed.wait()
        except TimeoutError as error:
            raise InfrastructureError(f"{what}: not within {deadline_s:g} s") from error

    async def follow(self, nc: Client) -> None:
        """Keep `observed` up to date until cancelled."""
        try:
            async for batch in follow(nc, OBSERVED):
                await self._take(batch.events, await _dead_letters(nc))
        except (EdgeloopError, nats.errors.Error) as error:
            async with self._changed:
                self._failure = error
                self._changed.notify_all()

    async def _take(self, events: tuple[Event[Payload], ...], dead_letters: int | None) -> None:
        async with self._changed:
            for event in events:
                if isinstance(event.data, DeviceReported):
                    known = self.observed.fleet.get(event.data.device)
                    if known is None or event.data.observed_at >= known.observed_at:
                        self.observed.fleet[event.data.device] = event.data
                else:
                    self._events.append(event)
            if any(not isinstance(event.data, DeviceReported) for event in events):
                self.observed.runs = fold(self._events)
            if dead_letters is not None:
                self.observed.dead_letters = dead_letters
            self._on_change(self.observed)
            self._changed.notify_all()


@asynccontextmanager
async def observing(url: str, on_change: Callable[[Observed], None]) -> AsyncIterator[Observer]:
    """Follow the bus at `url` for the length of the block."""
    observer = Observer(on_change)
    async with connected(url) as nc:
        task = asyncio.create_task(observer.follow(nc), name="observe the bus")
        try:
            yield observer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _dead_letters(nc: Client) -> int | None:
    try:
        return (await nc.jetstream(timeout=2).stream_info(DLQ.name)).state.messages
    except (nats.js.errors.Error, nats.errors.Error, TimeoutError):
        return None
