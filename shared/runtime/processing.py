"""How deliveries become effects: once, in one transaction with their inbox rows and what they cause to be said.

Deliveries are handled in groups that share a commit. When one of a group cannot be handled, the group is rolled back
and repeated with a savepoint around each, so that one event's failure takes nothing from its neighbours.
"""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final, TypeAlias
from uuid import UUID

import nats.errors
from google.protobuf.message import DecodeError
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError

from shared.bus import (
    TELEMETRY,
    DeadLetter,
    Delivery,
    Done,
    Outcome,
    PublishError,
    Reject,
    Retry,
    RetryLater,
    Unavailable,
    backoff,
    telemetry_id,
)
from shared.events import Event, Payload
from shared.events.catalogue import UnknownTypeError, decode
from shared.observability import Tracing
from shared.observability.metrics import EVENT_SECONDS, OUTBOX_WAITING
from shared.runtime.emitter import Emitter, name_of, require_declared
from shared.runtime.handlers import Emissions, Handler, Transaction, Worker
from shared.store import Inbox, Outbox, OutgoingMessage, Store
from shared.telemetry import TELEMETRY_ROOT, Telemetry, TelemetryBatch

log = logging.getLogger(__name__)

TELEMETRY_KEEP: Final = timedelta(seconds=2 * TELEMETRY.max_age_s)
"""A batch a second from each gateway would fill the inbox, and no redelivery comes after the stream has dropped it."""
INFRASTRUCTURE: Final = (OperationalError, InterfaceError, nats.errors.Error, PublishError, Unavailable)
"""Failures that say nothing about the event: the group is repeated in place until they pass, and nothing is counted."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Received: TypeAlias = Event[Payload] | Telemetry


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What processing needs beside the handlers themselves."""

    service: str
    store: Store
    outbox: Outbox
    emitter: Emitter
    tracing: Tracing

    async def flush(self) -> None:
        """Publish what is committed. An event is acknowledged only after everything it caused is on the bus."""
        OUTBOX_WAITING.labels(self.service).set(len(self.outbox))
        await self.outbox.flush()
        OUTBOX_WAITING.labels(self.service).set(0)


class _NotHandled(Exception):  # noqa: N818 - carries an outcome through a rollback
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


class _RepeatOneByOne(Exception):  # noqa: N818 - a change of plan, not an error
    pass


class TransactionalGroup:
    """Handles groups of deliveries of one consumer, each event inside a transaction."""

    def __init__(self, pipeline: Pipeline, consumer: str, handlers: Mapping[type, Handler], deps: object) -> None:
        self._pipeline = pipeline
        self._consumer = consumer
        self._inbox = Inbox(consumer, TELEMETRY_KEEP) if Telemetry in handlers else Inbox(consumer)
        self._handlers = handlers
        self._deps = deps

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Return one outcome for each delivery, in order. Raises only for infrastructure: database or bus."""
        started = perf_counter()
        received = [receive(delivery) for delivery in deliveries]
        try:
            outcomes = await self._transaction(deliveries, received, isolated=False)
        except _RepeatOneByOne:
            outcomes = await self._transaction(deliveries, received, isolated=True)
        await self._pipeline.flush()
        EVENT_SECONDS.labels(self._pipeline.service, self._consumer).observe(perf_counter() - started)
        return outcomes

    async def _transaction(
        self, deliveries: Sequence[Delivery], received: Sequence[Received | DeadLetter], *, isolated: bool
    ) -> list[Outcome]:
        now = datetime.now(UTC)
        outcomes: list[Outcome] = []
        handled: list[UUID] = []
        messages: list[OutgoingMessage] = []
        async with self._pipeline.store.transaction() as tx:
            seen = self._inbox.known(tx, [item.id for item in received if not isinstance(item, DeadLetter)])
            for delivery, item in zip(deliveries, received, strict=True):
                if isinstance(item, DeadLetter):
                    outcomes.append(item)
                    continue
                if item.id in seen:
                    outcomes.append(Done())
                    continue
                try:
                    messages += await self._one(tx, delivery, item, isolated=isolated)
                except _NotHandled as ending:
                    outcomes.append(ending.outcome)
                    continue
                outcomes.append(Done())
                handled.append(item.id)
                seen.add(item.id)
            self._inbox.add(tx, handled, now)
            self._pipeline.outbox.write(tx, messages, now)
        self._pipeline.outbox.committed(messages)
        return outcomes

    async def _one(
        self, tx: Transaction, delivery: Delivery, item: Received, *, isolated: bool
    ) -> list[OutgoingMessage]:
        handler = self._handlers[type(item.data) if isinstance(item, Event) else Telemetry]
        savepoint = tx.begin_nested() if isolated else None
        try:
            messages = await _call(self._pipeline, handler, item, self._deps, tx)
        except INFRASTRUCTURE:
            raise
        except Exception as error:
            if savepoint is None:
                raise _RepeatOneByOne from error
            savepoint.rollback()
            raise _NotHandled(outcome_of(error, delivery, handler.max_attempts)) from error
        if savepoint is not None:
            savepoint.commit()
        return messages


class LongWork:
    """Handles one delivery at a time outside any transaction, then commits what it has to say."""

    def __init__(self, pipeline: Pipeline, consumer: str, worker: Worker, deps: object) -> None:
        self._pipeline = pipeline
        self._consumer = consumer
        self._inbox = Inbox(consumer)
        self._worker = worker
        self._deps = deps

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Return the outcome. Raises only for infrastructure: database or bus."""
        started = perf_counter()
        outcome = await self._work(delivery)
        await self._pipeline.flush()
        EVENT_SECONDS.labels(self._pipeline.service, self._consumer).observe(perf_counter() - started)
        return outcome

    async def _work(self, delivery: Delivery) -> Outcome:
        item = receive(delivery)
        if isinstance(item, DeadLetter):
            return item
        async with self._pipeline.store.transaction() as tx:
            if self._inbox.known(tx, [item.id]):
                return Done()
        try:
            messages = await _call(self._pipeline, self._worker, item, self._deps)
        except INFRASTRUCTURE:
            raise
        except Exception as error:  # noqa: BLE001 - every way to fail has an outcome
            return outcome_of(error, delivery, self._worker.max_attempts)
        async with self._pipeline.store.transaction() as tx:
            if self._inbox.known(tx, [item.id]):
                return Done()
            now = datetime.now(UTC)
            self._inbox.add(tx, [item.id], now)
            self._pipeline.outbox.write(tx, messages, now)
        self._pipeline.outbox.committed(messages)
        return Done()

    def key(self, delivery: Delivery) -> str:
        """Return the order key of a delivery; what cannot be decoded has one of its own."""
        item = receive(delivery)
        if self._worker.key is None or not isinstance(item, Event):
            return str(delivery.stream_sequence)
        return self._worker.key(item.data)


async def _call(
    pipeline: Pipeline, route: Handler | Worker, item: Received, *arguments: object
) -> list[OutgoingMessage]:
    parent = item.traceparent if isinstance(item, Event) else None
    with pipeline.tracing.span(name_of(route), parent) as traceparent:
        emissions: Emissions = await route.call(item, *arguments)
    require_declared(route, emissions)
    return pipeline.emitter.messages(
        emissions,
        now=datetime.now(UTC),
        cause_id=item.id,
        run_id=item.correlationid if isinstance(item, Event) else item.id,
        causation_id=item.id if isinstance(item, Event) else None,
        traceparent=traceparent,
    )


def receive(delivery: Delivery) -> Received | DeadLetter:
    """Decode a delivery; what cannot be decoded is a dead letter that says why."""
    try:
        if delivery.subject.startswith(TELEMETRY_ROOT):
            batch = TelemetryBatch.FromString(delivery.data)
            return Telemetry(telemetry_id(batch), batch)
        return decode(delivery.subject, delivery.data)
    except (UnknownTypeError, DecodeError) as error:
        return DeadLetter(f"{delivery.subject}: {error}")
    except ValidationError as error:
        return DeadLetter(f"{delivery.subject}: {problems(error)}")


def problems(error: ValidationError) -> str:
    """Return what is wrong, key by key, without the values: they may be secret."""
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False))


def outcome_of(error: Exception, delivery: Delivery, max_attempts: int) -> Outcome:
    """Return what a handler's exception means for its delivery. Anything unexpected is worth another attempt.

    Raises:
        OSError: the disk is full, which is the infrastructure's trouble.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        raise error
    if isinstance(error, Reject):
        return DeadLetter(error.reason)
    reason = error.reason if isinstance(error, Retry) else f"{type(error).__name__}: {error}"
    if not isinstance(error, Retry):
        log.error("handler failed on %s", delivery.subject, exc_info=error, extra={"attempt": delivery.attempt})
    if delivery.attempt >= max_attempts:
        return DeadLetter(f"after {delivery.attempt} attempts: {reason}")
    asked = error.delay_s if isinstance(error, Retry) else None
    return RetryLater(backoff(delivery.attempt) if asked is None else asked, reason)
