"""A consumer under test: messages in, what was handled out."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from shared.bus import DONE, Consumer, ConsumerSpec, Delivery, Outcome, Publisher, ensure_consumer
from tests.support import eventually

SETTLED_WITHIN_S = 30
NOT_LOST_S = 60
"""An `ack_wait_s` with which a message that settles was handed back: the server would have waited longer."""
SPEC = ConsumerSpec("EVENTS", "lab", ("edgeloop.evt.>",), ack_wait_s=2, max_attempts=4)


@dataclass
class Bench:
    """One connection, one durable consumer, and shorthands."""

    nc: Client
    spec: ConsumerSpec = SPEC
    published: int = 0
    handled: list[str] = field(default_factory=list)
    """The bodies that were handled with `Done`, in order."""

    async def publish(self, *bodies: str, subject: str = "edgeloop.evt.watch.a.b.v1") -> None:
        """Store `bodies`, each with an id of its own."""
        first = self.published
        self.published += len(bodies)
        messages = [(subject, body.encode(), f"id-{first + n}") for n, body in enumerate(bodies)]
        await Publisher(self.nc, "tests").publish_many(messages)

    async def consumer(self, **changes: Any) -> Consumer:
        """Make the durable as `spec` with `changes`, and a runner on it."""
        self.spec = replace(self.spec, **changes)
        await ensure_consumer(self.nc.jetstream(), self.spec)
        return Consumer(self.nc, self.spec)

    async def done_with_all(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Handle a batch without trouble."""
        self.handled += [delivery.data.decode() for delivery in deliveries]
        return [DONE] * len(deliveries)

    async def info(self) -> ConsumerInfo:
        """Return the server's view, after everything we sent has reached it."""
        await self.nc.flush()
        info: ConsumerInfo = await self.nc.jetstream().consumer_info(self.spec.stream, self.spec.name)
        return info

    async def settled(self) -> None:
        """Wait until the server has nothing left for the consumer, for less than an `ack_wait_s` of 60."""

        async def nothing_left() -> bool:
            info = await self.info()
            return info.num_pending == 0 and info.num_ack_pending == 0

        await eventually(nothing_left, within_s=SETTLED_WITHIN_S)


@asynccontextmanager
async def running(consumer: Consumer, run: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run in the background, drain at the end, and pass on what went wrong."""
    task = asyncio.create_task(run)
    try:
        yield task
    finally:
        await consumer.drain(deadline_s=5)
        await asyncio.wait([task], timeout=5)
    task.result()
