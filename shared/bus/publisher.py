"""Publishing with deterministic ids: a timeout means unknown, and only the same id again is correct."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.delivery import MESSAGE_ID
from shared.bus.errors import PublishError
from shared.bus.outcomes import backoff
from shared.events import Payload, derived_id, envelop
from shared.events.catalogue import subject_of
from shared.telemetry import TelemetryBatch, subject_of_batch

IN_FLIGHT: Final = 1024
"""Messages sent before the first acknowledgement is awaited."""
ACK_WAIT_S: Final = 3.0
ROOM_FOR_HEADERS_BYTES: Final = 8192
"""Kept free in every message, so that a dead letter always has room for its headers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be stored."""

    subject: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a message is not known to be stored, and whether trying again is in vain."""

    reason: str
    permanent: bool = False


@dataclass(slots=True)
class _Flight:
    """Messages that were sent together, and what the server said of each: a duplicate or not, or a refusal."""

    answers: list[bool | _Refusal | None]
    missing: int
    landed: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, index: int, answer: bool | _Refusal) -> None:
        if self.answers[index] is None:
            self.answers[index] = answer
            self.missing -= 1
            if self.missing == 0:
                self.landed.set()


class Publisher:
    """Stores messages on the bus. One per connection is enough; calls may overlap."""

    def __init__(self, nc: Client, source: str, *, deadline_s: float = 30.0) -> None:
        """Args: source: who says it: the service's name. deadline_s: how long to retry what is not acknowledged."""
        self._nc = nc
        self._source = source
        self._deadline_s = deadline_s
        self._inbox = ""
        self._flights: dict[int, _Flight] = {}
        self._next_flight = 0

    async def publish(
        self,
        payload: Payload,
        *,
        event_id: UUID,
        run_id: UUID,
        cause_id: UUID | None = None,
        time: datetime | None = None,
        traceparent: str | None = None,
    ) -> bool:
        """Say `payload`.

        Returns:
            Whether the server knew the id already (also when an earlier attempt of this very call got through).

        Raises:
            PublishError: not acknowledged by the deadline, or refused. It may still have been stored.
        """
        event = envelop(
            payload,
            event_id=event_id,
            source=self._source,
            time=time or datetime.now(UTC),
            correlation_id=run_id,
            causation_id=cause_id,
            traceparent=traceparent,
        )
        return await self.publish_message(subject_of(payload), event.to_bytes(), str(event_id))

    async def publish_telemetry(self, batch: TelemetryBatch) -> bool:
        """Store a batch; its id comes from gateway and sequence. As `publish`."""
        subject = subject_of_batch(batch.project, batch.gateway)
        return await self.publish_message(subject, batch.SerializeToString(), str(telemetry_id(batch)))

    async def publish_message(
        self, subject: str, body: bytes, message_id: str, headers: Mapping[str, str] | None = None
    ) -> bool:
        """Store bytes that were made earlier. As `publish`."""
        return (await self._store([Message(subject, body, message_id, headers or {})]))[0]

    async def publish_many(self, messages: Sequence[tuple[str, bytes, str]]) -> list[bool]:
        """Store many ``(subject, body, message id)``: send all, then await the acknowledgements.

        In order, unless an attempt has to be repeated. Returns and raises as `publish`, for all together: after
        an error any of them may have been stored, and publishing all again is right.
        """
        duplicates: list[bool] = []
        for start in range(0, len(messages), IN_FLIGHT):
            duplicates += await self._store([Message(*message) for message in messages[start : start + IN_FLIGHT]])
        return duplicates

    async def _store(self, messages: Sequence[Message]) -> list[bool]:
        for message in messages:
            self._require_fits(message)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_s
        known: dict[int, bool] = {}
        attempt = 0
        while True:
            attempt += 1
            remaining = [index for index in range(len(messages)) if index not in known]
            timeout_s = max(0.05, min(ACK_WAIT_S, deadline - loop.time()))
            answers = await self._attempt([messages[index] for index in remaining], timeout_s)
            failures = []
            for index, answer in zip(remaining, answers, strict=True):
                if isinstance(answer, bool):
                    known[index] = answer
                else:
                    failures.append(_error(messages[index], answer))
            if not failures:
                return [known[index] for index in range(len(messages))]
            pause_s = backoff(attempt, longest_s=2)
            hopeless = next((failure for failure in failures if failure.permanent), None)
            if hopeless or loop.time() + pause_s >= deadline:
                raise hopeless or failures[0]
            _log.info("publishing %d messages again, attempt %d: %s", len(failures), attempt + 1, failures[0])
            await asyncio.sleep(pause_s)

    async def _attempt(self, messages: Sequence[Message], timeout_s: float) -> list[bool | _Refusal]:
        """Send `messages` and collect what the server answers in `timeout_s`."""
        if self._nc.is_closed:
            return [_Refusal("the connection is closed", permanent=True)] * len(messages)
        if not self._nc.is_connected:
            # nats-py would buffer each attempt, and deliver all of them later.
            return [_Refusal("the server is out of reach")] * len(messages)
        if not self._inbox:
            await self._open_inbox()
        number = self._next_flight
        self._next_flight += 1
        flight = self._flights[number] = _Flight([None] * len(messages), len(messages))
        try:
            for index, message in enumerate(messages):
                await self._nc.publish(
                    message.subject,
                    message.body,
                    reply=f"{self._inbox}.{number}.{index}",
                    headers={MESSAGE_ID: message.message_id, **message.headers},
                )
            async with asyncio.timeout(timeout_s):
                await flight.landed.wait()
        except (TimeoutError, nats.errors.Error) as error:
            timed_out = isinstance(error, TimeoutError)
            unknown = _Refusal(f"not acknowledged within {timeout_s:.1f} s" if timed_out else str(error))
            return [unknown if answer is None else answer for answer in flight.answers]
        finally:
            del self._flights[number]
        return [answer for answer in flight.answers if answer is not None]

    async def _open_inbox(self) -> None:
        inbox = self._inbox = self._nc.new_inbox()
        await self._nc.subscribe(f"{inbox}.>", cb=self._on_answer)

    async def _on_answer(self, message: Msg) -> None:
        _, number, index = message.subject.rsplit(".", 2)
        flight = self._flights.get(int(number))
        if flight is not None:
            flight.answer(int(index), _answer(message))

    def _require_fits(self, message: Message) -> None:
        room_bytes = 0 if message.headers else ROOM_FOR_HEADERS_BYTES
        allowed_bytes = self._nc.max_payload - room_bytes
        if len(message.body) > allowed_bytes:
            raise PublishError(
                f"the message {message.message_id} on {message.subject} has {len(message.body)} bytes; "
                f"{allowed_bytes} are allowed. Next: put large data into the object store and send its digest",
                permanent=True,
            )


def telemetry_id(batch: TelemetryBatch) -> UUID:
    """Return the id that every copy of this batch carries."""
    return derived_id("telemetry", batch.project, batch.gateway, batch.sequence)


def _answer(message: Msg) -> bool | _Refusal:
    if not message.data:
        # "No responders": the subject belongs to no stream, or the stream is not back yet after a restart.
        return _Refusal("no stream takes this subject; ensure_streams makes ours")
    answer = json.loads(message.data)
    if "error" in answer:
        error = answer["error"]
        # 5xx is the server's trouble (no space, no leader) and may pass; 4xx is about the message.
        return _Refusal(
            f"the server says: {error.get('description')} (code {error.get('err_code')})",
            permanent=int(error.get("code", 500)) < 500,
        )
    return bool(answer.get("duplicate", False))


def _error(message: Message, refusal: _Refusal) -> PublishError:
    next_step = "mend the cause" if refusal.permanent else "publish it again with the same id"
    return PublishError(
        f"the message {message.message_id} on {message.subject} may not be stored: {refusal.reason}. Next: {next_step}",
        permanent=refusal.permanent,
    )
