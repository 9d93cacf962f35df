"""CloudEvents 1.0 in structured JSON mode, with the correlation and tracing extensions.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar, cast
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.events._base import Payload

TYPE_PREFIX = "dev.edgeloop."
_NAMESPACE = UUID("5d6c1f8e-7f0f-5a53-9a43-0c1e7d8a2b11")

P = TypeVar("P", bound=Payload)
P_co = TypeVar("P_co", bound=Payload, covariant=True)


class Event(BaseModel, Generic[P_co]):
    """A payload with who said it, when, about which run, and because of what."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: UUID = Field(description="Derived from the cause: saying the same thing again carries the same id")
    source: str = Field(description="The service that said it")
    type: str = Field(pattern=r"^dev\.edgeloop\.[a-z0-9_]+\.[a-z0-9_]+\.v[0-9]+$")
    subject: str = Field(description="The project")
    time: Annotated[AwareDatetime, Field(description="When it was said, with a time zone")]
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: UUID = Field(description="The pipeline run that this belongs to")
    causationid: UUID | None = Field(default=None, description="The event that led to this one")
    traceparent: str | None = Field(default=None, description="W3C Trace Context")
    data: P_co

    def to_bytes(self) -> bytes:
        """Return what the bus carries.

        Nulls are said: a field can be required and null at once (`InstallRelease.digest`), and CloudEvents reads a null
        attribute as one that was left out.
        """
        return self.model_dump_json().encode()


def derived_id(*parts: object) -> UUID:
    """Return the UUID (version 5) that `parts` always give."""
    return uuid5(_NAMESPACE, "\x1f".join(map(str, parts)))


def envelop(
    payload: P,
    *,
    event_id: UUID,
    source: str,
    time: datetime,
    correlation_id: UUID,
    causation_id: UUID | None = None,
    traceparent: str | None = None,
) -> Event[P]:
    """Wrap `payload` for the bus.

    Raises:
        pydantic.ValidationError: `time` has no time zone.
    """
    envelope = cast("type[Event[P]]", Event[type(payload)])  # type: ignore[misc]
    return envelope(
        id=event_id,
        source=source,
        type=TYPE_PREFIX + payload.TYPE,
        subject=payload.project,
        time=time,
        correlationid=correlation_id,
        causationid=causation_id,
        traceparent=traceparent,
        data=payload,
    )
