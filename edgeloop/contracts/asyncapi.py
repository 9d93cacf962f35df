"""AsyncAPI 3.0 of the bus: channels are subjects, operations come from the routing tables.

The NATS binding of AsyncAPI knows one field, the queue group of core NATS, which a durable JetStream consumer is not:
streams, durables and retention are in `x-nats-*`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgeloop.contracts.participants import Message, Participant, describe
from edgeloop.contracts.schemas import DIALECT, first_paragraph, path_of
from shared.bus.topology import StreamSpec
from shared.events import Command, Payload
from shared.events.catalogue import PAYLOADS, subject_filter
from shared.events.envelope import TYPE_PREFIX
from shared.runtime.consumers import durable_of
from shared.runtime.handlers import Handler, Worker
from shared.telemetry import TELEMETRY_ROOT, Telemetry

TELEMETRY_NAME: Final = "telemetry.batch.v1"
PARAMETERS: Final[Mapping[str, str]] = {
    "project": "Slug of the project: a model repository",
    "receiver": "Slug of the service or gateway that carries the command out",
    "gateway": "Slug of the gateway that sent the batch",
}


def asyncapi(
    everyone: Sequence[Participant], streams: Sequence[StreamSpec], *, version: str, telemetry_proto: str
) -> dict[str, Any]:
    """Return the document; `telemetry_proto` is the text of the device wire format."""
    messages: list[Message] = [*PAYLOADS, Telemetry]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Edgeloop",
            "version": version,
            "description": "Delivered at least once, with effects exactly once: the header Nats-Msg-Id is the event's "
            "id, and a repeat carries the same one.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {"nats": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "NATS 2.11 or later"}},
        "x-nats-streams": {stream.name: _stream(stream) for stream in streams},
        "channels": {name_of(message): _channel(message, streams) for message in messages},
        "operations": {
            name: operation for participant in everyone for name, operation in _operations(participant).items()
        },
        "components": {
            "messages": {name_of(message): _message(message, telemetry_proto) for message in messages},
            "schemas": {"Headers": _HEADERS},
        },
    }


def name_of(message: Message) -> str:
    """Return the name of a message in the document: its type."""
    return message.TYPE if issubclass(message, Payload) else TELEMETRY_NAME


def address_of(message: Message) -> str:
    """Return the subject with the parameters in braces."""
    if not issubclass(message, Payload):
        return f"{TELEMETRY_ROOT}.{{project}}.{{gateway}}"
    return subject_filter(message, "{receiver}" if issubclass(message, Command) else "{project}")


_HEADERS: Final = {
    "type": "object",
    "required": ["Nats-Msg-Id"],
    "properties": {"Nats-Msg-Id": {"type": "string", "description": "What the server recognises a repeat by"}},
}


def _stream(stream: StreamSpec) -> dict[str, Any]:
    limits = {"max-age-s": stream.max_age_s, "max-bytes": stream.max_bytes}
    return {
        "description": stream.description,
        "subjects": list(stream.subjects),
        **_extensions({"retention": str(stream.retention.value)}),
        **_extensions({name: limit for name, limit in limits.items() if limit > 0}),
        **_extensions({"duplicate-window-s": stream.duplicate_window_s}),
        **_extensions({"deny-delete": True, "deny-purge": True} if stream.deny_delete and stream.deny_purge else {}),
    }


def _channel(message: Message, streams: Sequence[StreamSpec]) -> dict[str, Any]:
    address = address_of(message)
    root = ".".join(address.split(".")[:2])
    stream = next(stream for stream in streams if f"{root}.>" in stream.subjects)
    return {
        "address": address,
        "parameters": {name: {"description": text} for name, text in PARAMETERS.items() if f"{{{name}}}" in address},
        "messages": {name_of(message): {"$ref": f"#/components/messages/{name_of(message)}"}},
        **_extensions({"stream": stream.name, "retention": str(stream.retention.value)}),
    }


def _message(message: Message, telemetry_proto: str) -> dict[str, Any]:
    headers = {"$ref": "#/components/schemas/Headers"}
    if not issubclass(message, Payload):
        return {
            "name": "edgeloop.telemetry.v1.TelemetryBatch",
            "summary": "What the devices of one gateway saw",
            "contentType": "application/protobuf",
            "headers": headers,
            "payload": {"schemaFormat": "application/vnd.google.protobuf;version=3", "schema": telemetry_proto},
        }
    return {
        "name": TYPE_PREFIX + message.TYPE,
        "title": message.__name__,
        "summary": first_paragraph(message),
        "headers": headers,
        "payload": {
            "schemaFormat": f"application/schema+json;version={DIALECT.removeprefix('https://json-schema.org/').split('/')[1]}",
            "schema": {"$ref": f"./{path_of(message).removeprefix('proto/')}"},
        },
    }


def _operations(participant: Participant) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for route in participant.routes:
        if isinstance(route, Handler | Worker):
            durable = durable_of(route, service=participant.name, receiver="{receiver}")
            operations[f"{participant.name}.receive.{name_of(route.consumes)}"] = {
                **_operation("receive", route.consumes),
                "summary": f"{participant.name}: {describe(route)}",
                **_extensions({"durable": durable, "max-attempts": route.max_attempts}),
            }
    for message in participant.emits:
        operations[f"{participant.name}.send.{name_of(message)}"] = _operation("send", message)
    return operations


def _operation(action: str, message: Message) -> dict[str, Any]:
    name = name_of(message)
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _extensions(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"x-nats-{name}": value for name, value in facts.items()}
