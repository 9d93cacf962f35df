"""JSON Schemas (draft 2020-12) of every message and of the manifest."""

import json
from typing import Any, Final, cast

from shared.events import Command, Event, Payload
from shared.events.envelope import TYPE_PREFIX
from shared.releases.manifest import Manifest

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MANIFEST_PATH: Final = "proto/edgeloop.manifest.v1.schema.json"


def path_of(payload: type[Payload]) -> str:
    """Return where a payload's schema is kept: the folder says what it is, the file name is its type."""
    folder = "commands" if issubclass(payload, Command) else "events"
    return f"proto/{folder}/{payload.TYPE}.json"


def message_schema(payload: type[Payload]) -> dict[str, Any]:
    """Return the schema of the whole envelope around `payload`, as a reader accepts it."""
    # The envelope is generic over a class that only run time knows.
    envelope = cast("type[Event[Payload]]", Event[payload])  # type: ignore[valid-type]
    schema = envelope.model_json_schema(mode="validation")
    _drop_titles(schema)
    name = TYPE_PREFIX + payload.TYPE
    schema["properties"]["type"] = {"const": name, "type": "string"}
    # CloudEvents requires it of every writer, although this reader would supply it.
    schema["required"] = ["specversion", *schema["required"]]
    return {
        "$schema": DIALECT,
        "$id": f"urn:edgeloop:{payload.TYPE}",
        "title": name,
        "description": first_paragraph(payload),
        **{key: schema[key] for key in ("type", "required", "properties", "$defs")},
    }


def manifest_schema() -> dict[str, Any]:
    """Return the schema that editors complete `edgeloop.yaml` from."""
    schema = Manifest.model_json_schema(mode="validation")
    _drop_titles(schema)
    head = {"$schema": DIALECT, "$id": "urn:edgeloop:manifest.v1", "title": "edgeloop.yaml, version 1"}
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def first_paragraph(documented: type) -> str:
    """Return the first paragraph of a class's docstring on one line."""
    return " ".join((documented.__doc__ or "").strip().split("\n\n")[0].split())


def to_json(document: object) -> str:
    """Return `document` as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _drop_titles(node: Any) -> None:  # noqa: ANN401 - JSON is of any type
    """Remove the title that pydantic makes up for every field; those of classes stay."""
    if isinstance(node, list):
        for item in node:
            _drop_titles(item)
    elif isinstance(node, dict):
        for field in node.get("properties", {}).values():
            field.pop("title", None)
        for value in node.values():
            _drop_titles(value)
