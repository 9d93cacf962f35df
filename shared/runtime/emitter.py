"""From the payloads that a handler returns to the messages that the outbox publishes."""

from datetime import datetime
from typing import Final
from uuid import UUID

from shared.bus import Reject
from shared.bus.publisher import ROOM_FOR_HEADERS_BYTES
from shared.events import derived_id, envelop
from shared.events.catalogue import subject_of
from shared.observability.metrics import EVENTS_EMITTED
from shared.runtime.handlers import Emissions, InRun, Route
from shared.store import OutgoingMessage

LARGEST_EVENT_BYTES: Final = 1024 * 1024 - ROOM_FOR_HEADERS_BYTES
"""What a server takes by default, less the room that a dead letter's headers need."""


class Emitter:
    """Puts payloads into envelopes, under ids derived from their cause."""

    def __init__(self, service: str) -> None:
        self.service = service

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
        """Return the messages that say `emissions`, under ids derived from `cause_id`.

        Args:
            emissions: in the order in which they are to be published.
            now: their time.
            cause_id: the same cause gives the same ids.
            run_id: the run of those that name no other.
            causation_id: the event that led here, where one did.
            traceparent: W3C Trace Context, where there is one.

        Raises:
            Reject: one is too large for the bus.
        """
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
            body = event.to_bytes()
            if len(body) > LARGEST_EVENT_BYTES:
                raise Reject(
                    f"{payload.TYPE} of {len(body)} bytes does not fit on the bus, which takes {LARGEST_EVENT_BYTES}; "
                    "put what is large in the object store and say its digest"
                )
            messages.append(OutgoingMessage(subject_of(payload), body, str(event.id)))
            EVENTS_EMITTED.labels(self.service, payload.TYPE).inc()
        return messages


def require_declared(route: Route, emissions: Emissions) -> None:
    """Refuse what a route returned without declaring it in `emits`: the published contract would not show it.

    Raises:
        Reject: with the types.
    """
    payloads = (emission.payload if isinstance(emission, InRun) else emission for emission in emissions)
    if wrong := sorted({type(payload).__name__ for payload in payloads if type(payload) not in route.emits}):
        raise Reject(f"{name_of(route)} returned {', '.join(wrong)}, which its `emits` does not declare")


def name_of(route: Route) -> str:
    """Return the name of the function that a route calls, for logs and traces."""
    return getattr(route.call, "__name__", type(route).__name__)
