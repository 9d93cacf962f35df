"""Messages that could not be handled: what is kept of them, and how an operator replays or drops them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import RawStreamMsg

from shared.bus.delivery import Delivery
from shared.bus.errors import DeadLetterMissingError
from shared.bus.publisher import Message, Publisher
from shared.bus.topology import DLQ, DLQ_ROOT

SUBJECT: Final = "Edgeloop-Subject"
STREAM: Final = "Edgeloop-Stream"
SEQUENCE: Final = "Edgeloop-Sequence"
CONSUMER: Final = "Edgeloop-Consumer"
REASON: Final = "Edgeloop-Reason"
ATTEMPTS: Final = "Edgeloop-Attempts"
FIRST_SEEN: Final = "Edgeloop-First-Seen"
ORIGINAL_ID: Final = "Edgeloop-Message-Id"

LONGEST_REASON: Final = 2000


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A dead letter as it lies in the stream."""

    sequence: int
    """In the DLQ: what `get`, `replay` and `drop` take."""
    subject: str
    """Where the message was published first."""
    stream: str
    stream_sequence: int
    consumer: str
    reason: str
    attempts: int
    first_seen: datetime
    died_at: datetime | None
    message_id: str
    data: bytes


def dead_letter_of(delivery: Delivery, reason: str) -> Message:
    """Return the message that keeps `delivery` for an operator.

    Its id is derived: a crash between storing it and terminating the original makes no second one.
    """
    return Message(
        f"{DLQ_ROOT}.{delivery.stream}.{delivery.consumer}",
        delivery.data,
        f"dlq-{delivery.stream}-{delivery.consumer}-{delivery.stream_sequence}",
        {
            SUBJECT: delivery.subject,
            STREAM: delivery.stream,
            SEQUENCE: str(delivery.stream_sequence),
            CONSUMER: delivery.consumer,
            REASON: reason[:LONGEST_REASON],
            ATTEMPTS: str(delivery.attempt),
            FIRST_SEEN: delivery.stored_at.isoformat(),
            ORIGINAL_ID: delivery.message_id,
        },
    )


class DeadLetters:
    """The operator's side of the dead-letter stream."""

    def __init__(self, nc: Client) -> None:
        self._js = nc.jetstream()
        self._publisher = Publisher(nc, "dlq")

    async def list(
        self, limit: int = 100, stream: str | None = None, consumer: str | None = None, *, after: int = 0
    ) -> list[DeadLetterRecord]:
        """Return the oldest dead letters.

        Args:
            limit: at most so many.
            stream: only those from this stream.
            consumer: only those of this consumer.
            after: only those with a higher sequence, for the next page.
        """
        subject = f"{DLQ_ROOT}.{stream or '*'}.{consumer or '*'}"
        found: list[DeadLetterRecord] = []
        sequence = after
        while len(found) < limit:
            try:
                message = await self._js.get_msg(DLQ.name, seq=sequence + 1, subject=subject, next=True, direct=True)
            except nats.js.errors.NotFoundError:
                break
            found.append(_record(message))
            sequence = found[-1].sequence
        return found

    async def get(self, sequence: int) -> DeadLetterRecord:
        """Return one.

        Raises:
            DeadLetterMissingError: it was replayed or dropped, or never was.
        """
        try:
            return _record(await self._js.get_msg(DLQ.name, seq=sequence, direct=True))
        except nats.js.errors.NotFoundError as error:
            raise _missing(sequence) from error

    async def replay(self, sequence: int) -> DeadLetterRecord:
        """Publish the original message again, then forget the dead letter.

        The id is new, else the stream would take it for the duplicate that it is; services that had handled the event
        recognise it by the event's own id.

        Raises:
            DeadLetterMissingError: see `get`.
            PublishError: the stream did not take it; the dead letter stays.
        """
        record = await self.get(sequence)
        await self._publisher.publish_message(record.subject, record.data, f"replay-{sequence}")
        await self.drop(sequence)
        return record

    async def drop(self, sequence: int) -> None:
        """Forget one.

        Raises:
            DeadLetterMissingError: see `get`.
        """
        try:
            await self._js.delete_msg(DLQ.name, sequence)
        except nats.js.errors.APIError as error:
            raise _missing(sequence) from error


def _missing(sequence: int) -> DeadLetterMissingError:
    return DeadLetterMissingError(
        f"there is no dead letter {sequence}: it was replayed or dropped, or never was. Next: `edgeloop dlq ls`"
    )


def _record(message: RawStreamMsg) -> DeadLetterRecord:
    headers: Mapping[str, str] = message.headers or {}
    return DeadLetterRecord(
        sequence=message.seq or 0,
        subject=headers.get(SUBJECT, ""),
        stream=headers.get(STREAM, ""),
        stream_sequence=int(headers.get(SEQUENCE, 0)),
        consumer=headers.get(CONSUMER, ""),
        reason=headers.get(REASON, ""),
        attempts=int(headers.get(ATTEMPTS, 0)),
        first_seen=datetime.fromisoformat(headers.get(FIRST_SEEN, datetime.min.replace(tzinfo=UTC).isoformat())),
        died_at=message.time,
        message_id=headers.get(ORIGINAL_ID, ""),
        data=message.data or b"",
    )
