"""A message as the runner hands it over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from nats.aio.msg import Msg

MESSAGE_ID: Final = "Nats-Msg-Id"

_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of one message to one consumer."""

    subject: str
    data: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    stream: str
    consumer: str
    stream_sequence: int
    attempt: int
    """Deliveries so far, this one included, plus retries that were held locally."""
    stored_unix_ns: int
    """When the stream stored the message."""
    reply: str = field(repr=False)
    """Where acknowledgements go."""

    def __str__(self) -> str:
        return f"{self.consumer}: {self.stream} {self.stream_sequence} ({self.subject}), attempt {self.attempt}"

    @property
    def message_id(self) -> str:
        return self.headers.get(MESSAGE_ID, "")

    @property
    def stored_at(self) -> datetime:
        return datetime.fromtimestamp(self.stored_unix_ns / 1e9, tz=UTC)


def delivery_of(message: Msg) -> Delivery:
    """Read a delivery's metadata from its reply subject.

    ``$JS.ACK.<stream>.<consumer>.<attempt>.<stream seq>.<consumer seq>.<time>.<pending>``, or with
    ``<domain>.<account>`` before the stream (https://github.com/nats-io/nats-architecture-and-design, ADR-15).
    """
    reply = message.reply
    tokens = reply.split(".")
    at = 2 if len(tokens) == 9 else 4
    return Delivery(
        message.subject,
        message.data,
        message.headers or _NO_HEADERS,
        tokens[at],
        tokens[at + 1],
        int(tokens[at + 3]),
        int(tokens[at + 2]),
        int(tokens[at + 5]),
        reply,
    )
