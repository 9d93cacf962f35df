"""Reading what is on the bus: the history first, then what comes, over reconnections and restarts of the server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext
from pydantic import ValidationError

from edgeloop.errors import InfrastructureError
from shared.bus import EVENTS, connect
from shared.events import Event, Payload
from shared.events.catalogue import UnknownTypeError, decode, subject_filter

BATCH: Final = 256
POLL_S: Final = 0.5
FORGOTTEN_AFTER_S: Final = 60.0
QUIET_POLLS_BEFORE_CHECK: Final = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that arrived together; none when nothing came for a moment. `caught_up`: the history is read."""

    events: tuple[Event[Payload], ...]
    caught_up: bool


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """Connect to the bus for the length of a command.

    Raises:
        shared.bus.BusUnreachableError: nobody answers there.
    """
    nc = await connect(url, name="edgeloop-cli", deadline_s=3)
    try:
        yield nc
    finally:
        await nc.close()


async def history(nc: Client, types: Sequence[type[Payload]]) -> list[Event[Payload]]:
    """Return the events of these types that the bus still has, oldest first.

    Raises:
        InfrastructureError: the bus has no stream of events.
    """
    events: list[Event[Payload]] = []
    async for batch in follow(nc, types):
        events += batch.events
        if batch.caught_up:
            break
    return events


async def follow(nc: Client, types: Sequence[type[Payload]]) -> AsyncIterator[Batch]:
    """Yield events of these types for ever; what the reader does not know (a newer service said it) is left out.

    Raises:
        InfrastructureError: the bus has no stream of events.
    """
    js = nc.jetstream(timeout=5)
    subjects = [subject_filter(payload_type) for payload_type in types]
    after = 0
    while True:
        subscription, pending = await _subscribe(js, subjects, after)
        if not pending:
            yield Batch((), caught_up=True)
        quiet = 0
        while True:
            try:
                messages = await subscription.fetch(BATCH, timeout=POLL_S)
            except (TimeoutError, nats.errors.Error, nats.js.errors.Error):
                messages = []
            _heed_cancellation()
            events: list[Event[Payload]] = []
            for message in messages:
                after = max(after, message.metadata.sequence.stream)
                pending = message.metadata.num_pending
                try:
                    events.append(decode(message.subject, message.data))
                except (UnknownTypeError, ValidationError):
                    continue
            yield Batch(tuple(events), caught_up=not pending)
            quiet = 0 if messages else quiet + 1
            if quiet >= QUIET_POLLS_BEFORE_CHECK:
                quiet = 0
                if await _is_gone(subscription):  # the server was restarted and forgot it
                    break


async def _subscribe(
    js: JetStreamContext, subjects: Sequence[str], after: int
) -> tuple[JetStreamContext.PullSubscription, int]:
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        ack_policy=AckPolicy.NONE,
        filter_subjects=list(subjects),
        inactive_threshold=FORGOTTEN_AFTER_S,
        mem_storage=True,
        num_replicas=1,
    )
    try:
        info = await js.add_consumer(EVENTS.name, config)
    except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
        raise InfrastructureError(
            f"the bus has no readable stream {EVENTS.name} ({error})", next_step="start the services with `edgeloop up`"
        ) from error
    return await js.pull_subscribe_bind(consumer=info.name, stream=EVENTS.name), info.num_pending or 0


def _heed_cancellation() -> None:
    """Raise what `asyncio.wait_for`, which nats-py waits with, loses when a message and the cancellation meet.

    Source: https://github.com/python/cpython/issues/86296, mended in Python 3.12.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


async def _is_gone(subscription: JetStreamContext.PullSubscription) -> bool:
    try:
        await subscription.consumer_info()
    except nats.js.errors.NotFoundError:
        return True
    except (nats.js.errors.Error, nats.errors.Error, TimeoutError):
        return False
    return False
