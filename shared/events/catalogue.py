"""Every payload there is, and the one mapping between a type and a subject."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

from shared.events._base import Command, Payload
from shared.events.artifact import ArtifactBuilt, BuildFailed
from shared.events.dataset import DatasetAdded
from shared.events.device import DeviceReported, InstallObserved, InstallRelease
from shared.events.drift import DriftDetected, RetrainingRequested
from shared.events.envelope import TYPE_PREFIX, Event
from shared.events.lab import CandidateAccepted, CandidateRefused, LabBoardHealthChanged, LabJobEnded, RunStaging
from shared.events.rollout import (
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)
from shared.events.source import SourcePushed
from shared.events.validation import DataRejected, DataValidated, ModelRejected, ModelValidated

PAYLOADS: Final[tuple[type[Payload], ...]] = (
    SourcePushed,
    ArtifactBuilt,
    BuildFailed,
    DatasetAdded,
    DataValidated,
    DataRejected,
    ModelValidated,
    ModelRejected,
    RunStaging,
    CandidateAccepted,
    CandidateRefused,
    LabJobEnded,
    LabBoardHealthChanged,
    RolloutStarted,
    RolloutStageCompleted,
    RolloutSucceeded,
    RolloutFailed,
    RolloutRolledBack,
    RolloutSuperseded,
    InstallRelease,
    InstallObserved,
    DeviceReported,
    DriftDetected,
    RetrainingRequested,
)

BY_TYPE: Final[dict[str, type[Payload]]] = {payload.TYPE: payload for payload in PAYLOADS}

EVENT_ROOT: Final = "edgeloop.evt"
COMMAND_ROOT: Final = "edgeloop.cmd"


class UnknownTypeError(ValueError):
    """A subject or envelope names a type that this version does not know."""


def subject_of(payload: Payload) -> str:
    """Return ``edgeloop.evt.<project>.<type>`` for an event, ``edgeloop.cmd.<receiver>.<type>`` for a command."""
    if isinstance(payload, Command):
        return f"{COMMAND_ROOT}.{payload.receiver}.{payload.TYPE}"
    return f"{EVENT_ROOT}.{payload.project}.{payload.TYPE}"


def subject_filter(payload_type: type[Payload], scope: str = "*") -> str:
    """Return the filter that matches `payload_type` in every project (or for every receiver), or in one."""
    root = COMMAND_ROOT if issubclass(payload_type, Command) else EVENT_ROOT
    return f"{root}.{scope}.{payload_type.TYPE}"


def payload_type_of(subject: str) -> type[Payload]:
    """Return the payload class that a subject carries.

    Raises:
        UnknownTypeError: the subject is not one of ours, or its type is not in the catalogue.
    """
    parts = subject.split(".", 3)
    if len(parts) == 4 and ".".join(parts[:2]) in (EVENT_ROOT, COMMAND_ROOT) and parts[3] in BY_TYPE:
        return BY_TYPE[parts[3]]
    raise UnknownTypeError(
        f"subject {subject!r} carries no known type; known are {', '.join(sorted(BY_TYPE))}. "
        "If a newer service sent it, update this one"
    )


def decode(subject: str, body: bytes) -> Event[Payload]:
    """Parse the envelope and payload of a message.

    Raises:
        UnknownTypeError: the subject's type is not in the catalogue, or the envelope names another one.
        pydantic.ValidationError: the body is not that type's envelope.
    """
    event = _reader_of(subject)(body)
    if event.type != TYPE_PREFIX + event.data.TYPE:
        raise UnknownTypeError(
            f"the envelope on {subject!r} says type {event.type!r}; allowed there is {TYPE_PREFIX + event.data.TYPE!r}"
        )
    return event


@lru_cache(maxsize=4096)
def _reader_of(subject: str) -> Callable[[bytes], Event[Payload]]:
    """Return the parser of what `subject` carries: finding it costs as much as parsing a small event."""
    event_type = cast("type[Event[Payload]]", Event[payload_type_of(subject)])  # type: ignore[misc]
    return event_type.model_validate_json
