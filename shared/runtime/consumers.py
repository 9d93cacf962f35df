"""From a routing table to durable consumers.

All short handlers of a stream share one durable named after the service, so that a service sees its events in the
order in which they were said. Each worker has a durable of its own, so that a long build holds nothing up.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nats.aio.client import Client

from shared.bus import COMMANDS, EVENTS, TELEMETRY, Consumer, ConsumerSpec, Delivery, Outcome, ensure_consumer
from shared.events import Command, Payload
from shared.events.catalogue import subject_filter
from shared.observability.metrics import EVENTS_HANDLED
from shared.runtime.handlers import Handler, Route, Worker
from shared.runtime.processing import LongWork, Pipeline, TransactionalGroup
from shared.telemetry import TELEMETRY_ROOT, Telemetry

GROUP_SIZE = 64
"""Events that may share a commit: enough to share an fsync, few enough to repeat cheaply."""

SHORT_ACK_WAIT_S, LONG_ACK_WAIT_S = 10.0, 15.0
"""How soon the work of a killed process is given to the next. What is in hand is kept alive at a third of it."""
LONG_DRAIN_S = 5.0
"""Long work that is not done by then is interrupted and handed back: waiting for a build helps nobody who stops."""
IN_HAND_PER_CALL = 16
"""Long work kept in hand for each call that may run: enough that one busy key does not starve the others."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One durable consumer and what runs on it."""

    name: str
    run: Callable[[], Coroutine[Any, Any, None]]
    drain: Callable[[], Coroutine[Any, Any, None]]


async def lanes_of(
    routes: Sequence[Route], *, receiver: str, nc: Client, pipeline: Pipeline, deps: object
) -> list[Lane]:
    """Make or compare the durable consumers that `routes` need, and return what runs on each.

    Raises:
        TopologyError: a consumer on the server differs in a way that cannot be changed in place.
    """
    service = pipeline.service
    handlers = [route for route in routes if isinstance(route, Handler)]
    lanes = []
    for stream, group in groupby(
        sorted(handlers, key=lambda h: stream_of(h.consumes)), lambda h: stream_of(h.consumes)
    ):
        together = list(group)
        spec = ConsumerSpec(
            stream,
            durable_of(together[0], service=service, receiver=receiver),
            tuple(_filter(handler.consumes, receiver) for handler in together),
            ack_wait_s=SHORT_ACK_WAIT_S,
            max_attempts=max(handler.max_attempts for handler in together),
        )
        lanes.append(await _short_lane(spec, together, nc, pipeline, deps))
    for worker in routes:
        if isinstance(worker, Worker):
            spec = ConsumerSpec(
                stream_of(worker.consumes),
                durable_of(worker, service=service, receiver=receiver),
                (_filter(worker.consumes, receiver),),
                ack_wait_s=LONG_ACK_WAIT_S,
                max_attempts=worker.max_attempts,
            )
            lanes.append(await _long_lane(spec, worker, nc, pipeline, deps))
    return lanes


async def _short_lane(
    spec: ConsumerSpec, handlers: Sequence[Handler], nc: Client, pipeline: Pipeline, deps: object
) -> Lane:
    await ensure_consumer(nc.jetstream(), spec)
    consumer = Consumer(nc, spec, batch=GROUP_SIZE, on_settled=_counting(pipeline.service))
    group = TransactionalGroup(pipeline, spec.name, {handler.consumes: handler for handler in handlers}, deps)
    return Lane(f"{spec.stream}/{spec.name}", lambda: consumer.run_batches(group), consumer.drain)


async def _long_lane(spec: ConsumerSpec, worker: Worker, nc: Client, pipeline: Pipeline, deps: object) -> Lane:
    await ensure_consumer(nc.jetstream(), spec)
    consumer = Consumer(nc, spec, batch=IN_HAND_PER_CALL * worker.concurrency, on_settled=_counting(pipeline.service))
    work = LongWork(pipeline, spec.name, worker, deps)
    return Lane(
        f"{spec.stream}/{spec.name}",
        lambda: consumer.run_concurrently(
            work, concurrency=worker.concurrency, key=work.key if worker.key is not None else None
        ),
        lambda: consumer.drain(LONG_DRAIN_S),
    )


def durable_of(route: Handler | Worker, *, service: str, receiver: str) -> str:
    """Return the durable consumer that a route hangs on.

    A worker's carries the receiver's name where it takes commands: two gateways are one service, and each has its own.
    """
    if isinstance(route, Handler):
        return service
    action = route.consumes.TYPE.split(".")[1].replace("_", "-")
    return f"{receiver if issubclass(route.consumes, Command) else service}-{action}"


def stream_of(consumes: type[Payload] | type[Telemetry]) -> str:
    """Return the name of the stream that carries a payload type, or telemetry."""
    if consumes is Telemetry:
        return TELEMETRY.name
    return COMMANDS.name if issubclass(consumes, Command) else EVENTS.name


def _filter(consumes: type[Payload] | type[Telemetry], receiver: str) -> str:
    if not issubclass(consumes, Payload):
        return f"{TELEMETRY_ROOT}.>"
    return subject_filter(consumes, receiver if issubclass(consumes, Command) else "*")


def _counting(service: str) -> Callable[[Delivery, Outcome], None]:
    def count(delivery: Delivery, outcome: Outcome) -> None:
        EVENTS_HANDLED.labels(service, delivery.consumer, type(outcome).__name__).inc()

    return count
