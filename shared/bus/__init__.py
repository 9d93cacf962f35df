"""The JetStream layer: topology as data, publisher, consumer runner, dead letters."""

from shared.bus.connection import connect
from shared.bus.consumer import Consumer
from shared.bus.deadletters import DeadLetterRecord, DeadLetters
from shared.bus.delivery import MESSAGE_ID, Delivery
from shared.bus.embedded import EmbeddedServer
from shared.bus.errors import (
    BusClosedError,
    BusError,
    BusUnreachableError,
    ConsumerGoneError,
    DataDirectoryError,
    DeadLetterMissingError,
    EmbeddedServerError,
    PortInUseError,
    PublishError,
    ServerBinaryMissingError,
    ServerTooOldError,
    TopologyError,
)
from shared.bus.outcomes import DONE, DeadLetter, Done, Outcome, Reject, Retry, RetryLater, Unavailable, backoff
from shared.bus.publisher import Publisher, telemetry_id
from shared.bus.topology import (
    AUDIT,
    COMMANDS,
    DLQ,
    EVENTS,
    STREAMS,
    TELEMETRY,
    ConsumerSpec,
    StreamSpec,
    ensure_consumer,
    ensure_streams,
)

__all__ = [
    "AUDIT",
    "COMMANDS",
    "DLQ",
    "DONE",
    "EVENTS",
    "MESSAGE_ID",
    "STREAMS",
    "TELEMETRY",
    "BusClosedError",
    "BusError",
    "BusUnreachableError",
    "Consumer",
    "ConsumerGoneError",
    "ConsumerSpec",
    "DataDirectoryError",
    "DeadLetter",
    "DeadLetterMissingError",
    "DeadLetterRecord",
    "DeadLetters",
    "Delivery",
    "Done",
    "EmbeddedServer",
    "EmbeddedServerError",
    "Outcome",
    "PortInUseError",
    "PublishError",
    "Publisher",
    "Reject",
    "Retry",
    "RetryLater",
    "ServerBinaryMissingError",
    "ServerTooOldError",
    "StreamSpec",
    "TopologyError",
    "Unavailable",
    "backoff",
    "connect",
    "ensure_consumer",
    "ensure_streams",
    "telemetry_id",
]
