"""Streams and consumers as data, made or compared when a service starts."""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo

from shared.bus.errors import TopologyError
from shared.events.catalogue import COMMAND_ROOT, EVENT_ROOT
from shared.telemetry import TELEMETRY_ROOT

DLQ_ROOT: Final = "edgeloop.dlq"
AUDIT_ROOT: Final = "edgeloop.audit"

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
DEFAULT_MAX_ATTEMPTS: Final = 8

DUPLICATE_WINDOW_S: Final = 2 * HOUR_S
"""How long a stream remembers message ids: longer than the slowest sequence of retries."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_log = logging.getLogger(__name__)


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r} must be 1 to 64 of letters, digits, - and _: it is part of subjects")


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream. Sizes in bytes, -1 for no limit; ages in seconds, 0 for no limit."""

    name: str
    subjects: tuple[str, ...]
    description: str
    retention: RetentionPolicy = RetentionPolicy.LIMITS
    max_age_s: float = 0
    max_bytes: int = -1
    duplicate_window_s: float = DUPLICATE_WINDOW_S
    deny_delete: bool = False
    deny_purge: bool = False
    replicas: int = 1

    def __post_init__(self) -> None:
        _check_name("stream", self.name)


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable pull consumer with explicit acknowledgement. The server never gives up: the runner counts attempts."""

    stream: str
    name: str
    filter_subjects: tuple[str, ...]
    ack_wait_s: float = 30
    """A message that nobody acknowledged or kept alive for so long is delivered again."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    max_ack_pending: int = 2048
    """Deliveries in hand at once, over all replicas of the service."""
    only_new: bool = False
    """Begin with messages published from now on, instead of with the oldest."""
    description: str = ""

    def __post_init__(self) -> None:
        _check_name("stream", self.stream)
        _check_name("consumer", self.name)


EVENTS: Final = StreamSpec(
    "EVENTS", (f"{EVENT_ROOT}.>",), "What happened: facts, read by every service that cares", max_age_s=30 * DAY_S
)
COMMANDS: Final = StreamSpec(
    "COMMANDS",
    (f"{COMMAND_ROOT}.>",),
    "What one receiver is to do: each command is carried out once, then gone",
    retention=RetentionPolicy.WORK_QUEUE,
    max_age_s=7 * DAY_S,
)
TELEMETRY: Final = StreamSpec(
    "TELEMETRY",
    (f"{TELEMETRY_ROOT}.>",),
    "Batches from gateways (protobuf); the oldest go first when space runs out",
    max_age_s=48 * HOUR_S,
    max_bytes=1024**3,
)
DLQ: Final = StreamSpec(
    "DLQ", (f"{DLQ_ROOT}.>",), "Messages that could not be handled, until someone replays or drops them"
)
AUDIT: Final = StreamSpec("AUDIT", (f"{AUDIT_ROOT}.>",), "Who did what, for ever", deny_delete=True, deny_purge=True)

STREAMS: Final[tuple[StreamSpec, ...]] = (EVENTS, COMMANDS, TELEMETRY, DLQ, AUDIT)

_STREAM_FIELDS: Final = (
    "subjects",
    "retention",
    "storage",
    "max_age",
    "max_bytes",
    "duplicate_window",
    "deny_delete",
    "deny_purge",
    "num_replicas",
    "allow_direct",
    "description",
)
_STREAM_IMMUTABLE: Final = frozenset({"retention", "storage", "deny_delete", "deny_purge"})
_CONSUMER_FIELDS: Final = (
    "filter_subjects",
    "deliver_policy",
    "ack_policy",
    "ack_wait",
    "max_deliver",
    "max_ack_pending",
    "description",
)
_CONSUMER_IMMUTABLE: Final = frozenset({"deliver_policy", "ack_policy"})


async def ensure_streams(js: JetStreamContext, streams: Sequence[StreamSpec] = STREAMS) -> None:
    """Make the streams that are missing, and bring the others to what `streams` says.

    Raises:
        TopologyError: a stream differs in a field that cannot be changed in place.
    """
    for spec in streams:
        await _ensure_stream(js, spec)


async def _ensure_stream(js: JetStreamContext, spec: StreamSpec) -> None:
    wanted = _stream_config(spec)
    try:
        found = (await js.stream_info(spec.name)).config
    except nats.js.errors.NotFoundError:
        echoed = await _put_stream(js.add_stream, wanted)
        _require_echo(f"stream {spec.name}", _differences(wanted, echoed, _STREAM_FIELDS))
        _log.info("made stream %s", spec.name)
        return
    place = f"stream {spec.name}"
    differences = _differences(wanted, found, _STREAM_FIELDS)
    _require_mutable(place, differences, _STREAM_IMMUTABLE, f"`nats stream rm {spec.name}`")
    if differences:
        # What we do not specify stays as an operator set it.
        changed = found.evolve(**{name: getattr(wanted, name) for name in differences})
        echoed = await _put_stream(js.update_stream, changed)
        _require_echo(place, _differences(wanted, echoed, _STREAM_FIELDS))
        _log_changes(place, differences)


async def _put_stream(put: Callable[[StreamConfig], Awaitable[StreamInfo]], config: StreamConfig) -> StreamConfig:
    try:
        return (await put(config)).config
    except nats.js.errors.APIError as error:
        raise TopologyError(
            f"the server refused stream {config.name}: {error.description} (code {error.err_code}). "
            "Next: if it is about storage, free some disk where the server keeps its data, or raise its limit "
            "(max_file_store); else look into the server's log"
        ) from error


async def ensure_consumer(js: JetStreamContext, spec: ConsumerSpec) -> None:
    """Make the durable consumer, or bring it to what `spec` says.

    Raises:
        TopologyError: its stream is missing, or it differs in a field that cannot be changed in place.
    """
    place = f"consumer {spec.name} of stream {spec.stream}"
    wanted = _consumer_config(spec)
    try:
        found = (await js.consumer_info(spec.stream, spec.name)).config
    except nats.js.errors.NotFoundError:
        echoed = await _put_consumer(js, spec, wanted)
        _require_echo(place, _differences(wanted, echoed, _CONSUMER_FIELDS))
        _log.info("made %s", place)
        return
    differences = _differences(wanted, found, _CONSUMER_FIELDS)
    _require_mutable(place, differences, _CONSUMER_IMMUTABLE, f"`nats consumer rm {spec.stream} {spec.name}`")
    if differences:
        changed = {name: getattr(wanted, name) for name in differences}
        if "filter_subjects" in changed:
            changed["filter_subject"] = None
        echoed = await _put_consumer(js, spec, found.evolve(**changed))
        _require_echo(place, _differences(wanted, echoed, _CONSUMER_FIELDS))
        _log_changes(place, differences)


async def _put_consumer(js: JetStreamContext, spec: ConsumerSpec, config: ConsumerConfig) -> ConsumerConfig:
    try:
        return (await js.add_consumer(spec.stream, config)).config
    except nats.js.errors.NotFoundError as error:
        raise TopologyError(
            f"stream {spec.stream}, which consumer {spec.name} reads, does not exist. Next: call ensure_streams first"
        ) from error
    except nats.js.errors.APIError as error:
        raise TopologyError(
            f"the server refused consumer {spec.name} of stream {spec.stream}: {error.description}. "
            f"Wanted: subjects {', '.join(spec.filter_subjects)}. Next: on a work queue each subject can have one "
            "consumer only; look for another with `nats consumer ls`"
        ) from error


def _stream_config(spec: StreamSpec) -> StreamConfig:
    return StreamConfig(
        name=spec.name,
        description=spec.description,
        subjects=list(spec.subjects),
        retention=spec.retention,
        storage=StorageType.FILE,
        max_age=spec.max_age_s,
        max_bytes=spec.max_bytes,
        duplicate_window=spec.duplicate_window_s,
        deny_delete=spec.deny_delete,
        deny_purge=spec.deny_purge,
        num_replicas=spec.replicas,
        allow_direct=True,
    )


def _consumer_config(spec: ConsumerSpec) -> ConsumerConfig:
    return ConsumerConfig(
        name=spec.name,
        durable_name=spec.name,
        description=spec.description,
        deliver_policy=DeliverPolicy.NEW if spec.only_new else DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=spec.ack_wait_s,
        max_deliver=-1,
        filter_subjects=list(spec.filter_subjects),
        max_ack_pending=spec.max_ack_pending,
    )


def _differences(
    wanted: StreamConfig | ConsumerConfig, found: StreamConfig | ConsumerConfig, fields: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """Return found and wanted by field, for the fields that differ."""
    pairs = {name: (_comparable(found, name), _comparable(wanted, name)) for name in fields}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _comparable(config: StreamConfig | ConsumerConfig, field: str) -> Any:  # noqa: ANN401 - fields have all types
    value = getattr(config, field)
    if field == "filter_subjects":
        # The server may echo a single filter in the older, singular field.
        single = getattr(config, "filter_subject", None)
        return sorted(value or ([single] if single else []))
    if field == "subjects":
        return sorted(value or [])
    if isinstance(value, float):
        return round(value, 6)
    return "" if value is None else value


def _require_mutable(
    place: str, differences: dict[str, tuple[Any, Any]], immutable: frozenset[str], removal: str
) -> None:
    for field, (found, wanted) in differences.items():
        if field in immutable:
            raise TopologyError(
                f"{place}: {field} is {_shown(found)}, wanted {_shown(wanted)}, and cannot be changed in place. "
                f"Next: save what it holds if it matters, remove it with {removal}, and start again"
            )


def _require_echo(place: str, differences: dict[str, tuple[Any, Any]]) -> None:
    for field, (found, wanted) in differences.items():
        raise TopologyError(
            f"{place}: the server answered {field} {_shown(found)} although it was told {_shown(wanted)}. "
            "Next: check the server's version and account limits; old servers ignore what they do not know"
        )


def _log_changes(place: str, differences: dict[str, tuple[Any, Any]]) -> None:
    for field, (found, wanted) in differences.items():
        _log.warning("changed %s: %s from %s to %s", place, field, _shown(found), _shown(wanted))


def _shown(value: Any) -> str:  # noqa: ANN401 - fields have all types
    return repr(getattr(value, "value", value))
