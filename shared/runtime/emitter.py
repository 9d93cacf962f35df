"""From the payloads that a handler returns to the messages that the outbox publishes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.bus import Reject
from shared.bus.publisher import ROOM_FOR_HEADERS_BYTES
from shared.events import Payload, derived_id, envelop
from shared.events.catalogue import subject_of
from shared.observability.metrics import EVENTS_EMITTED
from shared.runtime.handlers import Emissions, InRun, Transaction
from shared.store import Outbox, OutgoingMessage

LARGEST_EVENT_BYTES: Final = 1024 * 1024 - ROOM_FOR_HEADERS_BYTES
"""What a server takes by default, less the room that a dead letter's headers need."""


class Emitter:
    """Writes payloads to the outbox under ids derived from their cause."""

    def __init__(self, service: str, outbox: Outbox) -> None:
        self.service = service
        self._outbox = outbox

    def emit(  # noqa: D417 - the rest says what it is by its name
        self,
        tx: Transaction,
        emissions: Emissions,
        *,
        now: datetime,
        cause_id: UUID,
        run_id: UUID,
        causation_id: UUID | None = None,
        traceparent: str | None = None,
    ) -> list[OutgoingMessage]:
        """Write `emissions` in the open transaction; after its commit pass the result to `Outbox.committed`.

        Args:
            cause_id: What the ids are derived from: the same cause gives the same ids.
            causation_id: The event that led here, where one did.
        """
        messages = self.messages(
            emissions, now=now, cause_id=cause_id, run_id=run_id, causation_id=causation_id, traceparent=traceparent
        )
        self._outbox.write(tx, messages, now)
        return messages

    def messages(
        self,
        emissions: Emissions,
        *,
        now: datetime,
        cause_id: UUID,
        run_id: UUID,
        causation_id: UUID | None = None,
        traceparent: str | None = None,
    ) -> list[OutgoingMessage]:
        """Return the messages that `emit` would write."""
        messages = []
        for index, emission in enumerate(emissions):
            payload, run = (emission.payload, emission.run_id) if isinstance(emission, InRun) else (emission, run_id)
            event = envelop(
                payload,
                event_id=derived_id(self.service, cause_id, payload.TYPE, index),
                source=self.service,
                time=now,
                correlation_id=run,
                causation_id=causation_id,
                traceparent=traceparent,
            )
            body = event.model_dump_json(exclude_none=True).encode()
            if len(body) > LARGEST_EVENT_BYTES:
                raise Reject(
                    f"{payload.TYPE} of {len(body)} bytes does not fit on the bus, which takes {LARGEST_EVENT_BYTES}; "
                    "put what is large in the object store and say its digest"
                )
            messages.append(OutgoingMessage(subject_of(payload), body, str(event.id)))
            EVENTS_EMITTED.labels(self.service, payload.TYPE).inc()
        return messages


def undeclared(emissions: Emissions, declared: Sequence[type[Payload]]) -> list[str]:
    """Return the types that a handler returned without declaring them in `emits`."""
    payloads = (emission.payload if isinstance(emission, InRun) else emission for emission in emissions)
    return sorted({type(payload).__name__ for payload in payloads if type(payload) not in declared})
