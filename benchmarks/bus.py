"""How many events a second a consumer handles: our runner beside nats-py's fetch and FastStream's pull subscribers.

Every side reads the same events from the same stream of the same server, decodes each into an `Event`, and
acknowledges it. The sides take turns for several rounds, and each is shown with its best one: what else the machine
was doing then disturbs all of them alike. One more side runs the whole runtime: for each event a handler that says
another event, with inbox and outbox in one transaction of a SQLite file that is synced at every commit.

    python benchmarks/bus.py [--messages 100000] [--rounds 3] [--json]

Exit code 1 when a bar is not reached.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import nats.errors
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client
from rich.console import Console
from rich.table import Table

from shared.bus import (
    DONE,
    Consumer,
    ConsumerSpec,
    Delivery,
    EmbeddedServer,
    Outcome,
    Publisher,
    connect,
    ensure_consumer,
    ensure_streams,
)
from shared.events import Event, Payload, envelop
from shared.events.catalogue import decode, subject_of
from shared.events.rollout import RolloutSucceeded, RolloutSuperseded
from shared.observability import Tracing
from shared.runtime.consumers import lanes_of
from shared.runtime.emitter import Emitter
from shared.runtime.handlers import Transaction, handles
from shared.runtime.processing import Pipeline
from shared.store import Outbox, OutgoingMessage, Store, inbox, outbox

BAR_EVENTS_PER_S: Final = 60_000
BAR_TIMES_FASTSTREAM: Final = 5
BAR_WITH_SQL_PER_S: Final = 4_000
FETCH: Final = 100
BATCH: Final = 500

EVENT: Final = RolloutSucceeded(
    project="exercise-recognition", rollout_id=uuid4(), digest=f"sha256:{'0' * 64}", devices=24, seconds=12.3
)
SUBJECT: Final = subject_of(EVENT)


@dataclass(frozen=True, slots=True)
class Bus:
    """Where a side reads from: a fresh durable consumer of a filled stream."""

    nc: Client
    url: str
    durable: str
    messages: int


@dataclass(frozen=True, slots=True)
class Side:
    """One way to consume; `share` of the messages, so that slow sides do not take minutes."""

    name: str
    run: Callable[[Bus], Awaitable[float]]
    """Handles `Bus.messages` events and returns the seconds."""
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a side reached in its best round."""

    side: str
    messages: int
    seconds: float
    events_per_s: int


class Stopwatch:
    """Counts handled events, and tells when the last one was."""

    def __init__(self, messages: int) -> None:
        self._missing = messages
        self._began = time.perf_counter()
        self._ended = asyncio.Event()
        self.seconds = 0.0

    def handled(self, count: int) -> None:
        self._missing -= count
        if self._missing <= 0 and not self._ended.is_set():
            self.seconds = time.perf_counter() - self._began
            self._ended.set()

    async def wait(self) -> float:
        async with asyncio.timeout(120):
            await self._ended.wait()
        return self.seconds


async def edgeloop_runner(bus: Bus) -> float:
    """Our runner: batches, one outcome per event."""
    consumer = Consumer(bus.nc, ConsumerSpec("EVENTS", bus.durable, (SUBJECT,)), batch=BATCH)
    watch = Stopwatch(bus.messages)

    async def process(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        for delivery in deliveries:
            decode(delivery.subject, delivery.data)
        watch.handled(len(deliveries))
        return [DONE] * len(deliveries)

    run = asyncio.create_task(consumer.run_batches(process))
    seconds = await watch.wait()
    await consumer.drain()
    await run
    return seconds


async def nats_py_fetch(bus: Bus) -> float:
    """What nats-py's documentation shows: `fetch`, then `ack` for each message."""
    subscription = await bus.nc.jetstream().pull_subscribe_bind(bus.durable, "EVENTS")
    watch = Stopwatch(bus.messages)
    left = bus.messages
    while left > 0:
        try:
            messages = await subscription.fetch(min(FETCH, left), timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            decode(message.subject, message.data)
            await message.ack()
        left -= len(messages)
        watch.handled(len(messages))
    await subscription.unsubscribe()
    return await watch.wait()


async def faststream_per_message(bus: Bus) -> float:
    """FastStream's pull subscriber, one call per event."""
    return await _faststream(bus, PullSub(batch_size=FETCH), _handled_one)


async def faststream_in_batches(bus: Bus) -> float:
    """FastStream's pull subscriber, one call per batch."""
    return await _faststream(bus, PullSub(batch_size=BATCH, timeout=0.5, batch=True), len)


async def _faststream(bus: Bus, pull: PullSub, count: Callable[[Any], int]) -> float:
    """Run a subscriber that does no more than we do: no logging, and our decoding instead of its own on top."""

    async def parse(message: NatsMessage) -> object:
        raw = message.raw_message
        if isinstance(raw, list):
            return [decode(each.subject, each.data) for each in raw]
        return decode(raw.subject, raw.data)

    broker = NatsBroker(bus.url, logger=None, apply_types=False, decoder=parse)
    watch = Stopwatch(bus.messages)

    async def handle(decoded: Any) -> None:  # noqa: ANN401 - an event, or a list of them
        watch.handled(count(decoded))

    stream = JStream("EVENTS", declare=False)
    broker.subscriber(SUBJECT, durable=bus.durable, stream=stream, pull_sub=pull)(handle)
    async with broker:
        watch = Stopwatch(bus.messages)
        await broker.start()
        return await watch.wait()


def _handled_one(_decoded: object) -> int:
    return 1


async def edgeloop_with_sql(bus: Bus) -> float:
    """The whole runtime: decode, inbox, handler, outbox, commit, publish what was said, acknowledge."""
    watch = Stopwatch(bus.messages)

    @handles(RolloutSucceeded, emits=(RolloutSuperseded,))
    async def answer(event: Event[RolloutSucceeded], _deps: None, _tx: Transaction) -> list[Payload]:
        watch.handled(1)
        said = event.data
        return [RolloutSuperseded(project=said.project, rollout_id=said.rollout_id, digest=said.digest, by=said.digest)]

    publisher = Publisher(bus.nc, bus.durable)

    async def publish(messages: Sequence[OutgoingMessage]) -> None:
        await publisher.publish_many([(each.subject, each.body, each.message_id) for each in messages])

    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/state.db", inbox.METADATA, outbox.METADATA)
        box = Outbox(store, publish)
        pipeline = Pipeline(bus.durable, store, box, Emitter(bus.durable), Tracing(bus.durable))
        (lane,) = await lanes_of([answer], receiver=bus.durable, nc=bus.nc, pipeline=pipeline, deps=None)
        watch = Stopwatch(bus.messages)
        began = time.perf_counter()
        run = asyncio.create_task(lane.run())
        await watch.wait()
        await lane.drain()  # the last group's commit, publishes and acknowledgements count too
        seconds = time.perf_counter() - began
        await run
        store.close()
    return seconds


OURS: Final = Side("Edgeloop runner, batches", edgeloop_runner)
FASTSTREAM: Final = Side("FastStream pull subscriber", faststream_per_message, share=0.2)
WITHOUT_SQL: Final = (
    OURS,
    Side("nats-py fetch(100)", nats_py_fetch, share=0.5),
    FASTSTREAM,
    Side("FastStream pull subscriber, batches", faststream_in_batches, share=0.5),
)
WITH_SQL: Final = Side("Edgeloop runtime, inbox and outbox on SQLite", edgeloop_with_sql, share=0.1)


async def compare(sides: Sequence[Side], messages: int, rounds: int) -> list[Result]:
    """Let the sides take turns on one server, and return each one's best round."""
    best: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as data, EmbeddedServer(Path(data)) as server:
        nc = await connect(server.url, name="bench")
        js = nc.jetstream()
        await ensure_streams(js)
        await fill(nc, messages)
        for number in range(rounds):
            for position, side in enumerate(sides):
                count = int(messages * side.share)
                durable = f"side-{position}-round-{number}"
                if side is not WITH_SQL:  # the runtime makes its own
                    await ensure_consumer(js, ConsumerSpec("EVENTS", durable, (SUBJECT,)))
                seconds = await side.run(Bus(nc, server.url, durable, count))
                await js.delete_consumer("EVENTS", durable)
                result = Result(side.name, count, round(seconds, 3), int(count / seconds))
                print(f"round {number + 1}: {side.name}: {result.events_per_s:,}/s", file=sys.stderr)
                if side.name not in best or result.events_per_s > best[side.name].events_per_s:
                    best[side.name] = result
        await nc.close()
    return [best[side.name] for side in sides]


async def fill(nc: Client, messages: int) -> None:
    """Store `messages` different events."""
    publisher = Publisher(nc, "bench")
    run_id = uuid4()
    batch = []
    for _ in range(messages):
        event_id = uuid4()
        event = envelop(EVENT, event_id=event_id, source="bench", time=datetime.now(UTC), correlation_id=run_id)
        batch.append((SUBJECT, event.to_bytes(), str(event_id)))
    began = time.perf_counter()
    await publisher.publish_many(batch)
    seconds = time.perf_counter() - began
    print(f"published {messages:,} events, {int(messages / seconds):,}/s", file=sys.stderr)


def main() -> int:
    """Run, print, and say by the exit code whether the bar was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table")
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    results = asyncio.run(compare((*WITHOUT_SQL, WITH_SQL), options.messages, options.rounds))
    by_name = {result.side: result.events_per_s for result in results}
    ours, faststream, with_sql = by_name[OURS.name], by_name[FASTSTREAM.name], by_name[WITH_SQL.name]
    bars = {
        f"the runner handles {BAR_EVENTS_PER_S:,}/s or {BAR_TIMES_FASTSTREAM} times FastStream's pull subscriber": (
            ours >= BAR_EVENTS_PER_S or ours >= BAR_TIMES_FASTSTREAM * faststream
        ),
        f"with inbox and outbox on SQLite {BAR_WITH_SQL_PER_S:,}/s": with_sql >= BAR_WITH_SQL_PER_S,
    }
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"machine": machine, "results": [asdict(each) for each in results], "bars": bars}))
    else:
        show(results, faststream, bars, machine)
    return 0 if all(bars.values()) else 1


def show(results: Sequence[Result], faststream: int, bars: dict[str, bool], machine: str) -> None:
    """Print a table and the bars."""
    table = Table(title=f"Events handled per second ({machine})")
    table.add_column("side")
    table.add_column("events/s", justify="right")
    table.add_column("times FastStream", justify="right")
    for result in results:
        table.add_row(result.side, f"{result.events_per_s:,}", f"{result.events_per_s / faststream:.1f}")
    Console().print(table)
    for bar, reached in bars.items():
        print(f"{'reached' if reached else 'MISSED'}: {bar}")


if __name__ == "__main__":
    sys.exit(main())
