"""Published schemas and current code understand each other, both ways."""

import base64
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

import shared.events
from edgeloop.contracts import freeze
from edgeloop.contracts.schemas import message_schema, path_of
from shared.events import Command, Event, Payload, derived_id, envelop
from shared.events.catalogue import (
    BY_TYPE,
    PAYLOADS,
    UnknownTypeError,
    decode,
    payload_type_of,
    subject_filter,
    subject_of,
)
from shared.events.envelope import TYPE_PREFIX
from shared.runtime import Emitter

ROOT = Path(__file__).parents[2]
IMPERATIVES = {"Install", "Run"}
IRREGULAR_PARTICIPLES = {"Built"}

every_payload = pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.TYPE)
few_examples = settings(max_examples=20)


@cache
def published(payload: type[Payload]) -> Mapping[str, Any]:
    """Return the schema as the last release froze it, or before the first release as it is committed."""
    baseline = ROOT / freeze.FROZEN_PATH
    if baseline.exists():
        frozen = freeze.parse(baseline.read_text("utf-8")).schemas
        if path_of(payload) in frozen:
            return frozen[path_of(payload)]
    schema: Mapping[str, Any] = json.loads((ROOT / path_of(payload)).read_text("utf-8"))
    return schema


def instances(node: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return what a writer of the schema may say, optional fields present or not."""
    if "$ref" in node:
        return instances(root["$defs"][node["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in node:
        return st.one_of([instances(option, root) for option in node["anyOf"]])
    if "const" in node or "enum" in node:
        return st.sampled_from(node.get("enum") or [node["const"]])
    if node["type"] == "array":
        size = {"min_size": node.get("minItems", 0), "max_size": node.get("maxItems", node.get("minItems", 0) + 2)}
        return st.lists(instances(node["items"], root), **size)
    if node["type"] == "object":
        fields = {name: instances(field, root) for name, field in node["properties"].items()}
        required = {name: fields.pop(name) for name in node["required"]}
        return st.fixed_dictionaries(required, optional=fields)
    return scalars(node)


@cache
def published_documents(payload: type[Payload]) -> st.SearchStrategy[Any]:
    return instances(published(payload), published(payload))


@cache
def current_documents(payload: type[Payload]) -> st.SearchStrategy[Any]:
    schema = message_schema(payload)
    return instances(schema, schema)


def scalars(node: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return strings, numbers, booleans and null within their limits."""
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum")
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(low, high),
        "number": st.floats(low, high, allow_nan=False, allow_infinity=False, exclude_min="exclusiveMinimum" in node),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": strings(node),
    }
    return kinds[node["type"]]


def strings(node: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Return strings of the node's format or pattern."""
    formats: dict[str, st.SearchStrategy[str]] = {
        "uuid": st.uuids().map(str),
        "date-time": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "base64url": st.binary(max_size=9).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
    }
    if "format" in node:
        return formats[node["format"]]
    if "pattern" in node:
        return st.from_regex(node["pattern"], fullmatch=True)
    return st.text(min_size=node.get("minLength", 0), max_size=12)


def with_unknown_fields(value: Any) -> Any:
    """Return `value` as a newer writer might say it: another field in every object."""
    if isinstance(value, dict):
        return {**{name: with_unknown_fields(inner) for name, inner in value.items()}, "from_the_future": {"x": [1]}}
    if isinstance(value, list):
        return [with_unknown_fields(inner) for inner in value]
    return value


def decoded(payload: type[Payload], document: Any) -> Event[Payload]:
    return decode(subject_filter(payload, "some-project"), json.dumps(document).encode())


def payload_classes() -> Iterator[type[Payload]]:
    """Yield every class that names a TYPE, wherever in shared.events it hides."""
    for module in pkgutil.iter_modules(shared.events.__path__, "shared.events."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Payload) and "TYPE" in vars(value):
                yield value


@every_payload
@few_examples
@given(data=st.data())
def test_current_code_reads_what_a_writer_of_the_published_schema_says(
    payload: type[Payload], data: st.DataObject
) -> None:
    document = data.draw(published_documents(payload))
    assert isinstance(decoded(payload, document).data, payload)


@every_payload
@few_examples
@given(data=st.data())
def test_what_current_code_writes_is_valid_by_the_published_schema(payload: type[Payload], data: st.DataObject) -> None:
    event = decoded(payload, data.draw(current_documents(payload)))
    Draft202012Validator(published(payload), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        json.loads(event.to_bytes())
    )


@every_payload
@few_examples
@given(data=st.data())
def test_what_a_handler_returns_arrives_as_it_was_said(payload: type[Payload], data: st.DataObject) -> None:
    said = decoded(payload, data.draw(current_documents(payload)))
    (message,) = Emitter("test").messages([said.data], now=said.time, cause_id=said.id, run_id=said.correlationid)
    assert decode(message.subject, message.body).data == said.data


@every_payload
@few_examples
@given(data=st.data())
def test_fields_that_a_newer_writer_adds_are_ignored(payload: type[Payload], data: st.DataObject) -> None:
    document = data.draw(current_documents(payload))
    assert decoded(payload, with_unknown_fields(document)) == decoded(payload, document)


@every_payload
@few_examples
@given(data=st.data())
def test_a_subject_and_a_type_name_each_other(payload: type[Payload], data: st.DataObject) -> None:
    said = decoded(payload, data.draw(current_documents(payload))).data
    subject = subject_of(said)
    assert payload_type_of(subject) is payload
    scope = said.receiver if isinstance(said, Command) else said.project
    assert subject == subject_filter(payload, scope)
    assert len(subject.split(".")) == len(subject_filter(payload).split("."))


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_a_subject_of_no_known_type_is_refused(subject: str) -> None:
    with pytest.raises(UnknownTypeError, match="known are artifact"):
        payload_type_of(subject)


@every_payload
def test_a_published_schema_names_its_type_and_its_dialect(payload: type[Payload]) -> None:
    schema = published(payload)
    Draft202012Validator.check_schema(dict(schema))
    assert schema["title"] == TYPE_PREFIX + payload.TYPE == schema["properties"]["type"]["const"]
    assert schema["$id"] == f"urn:edgeloop:{payload.TYPE}"
    assert {"id", "source", "specversion", "type"} <= set(schema["required"]), "CloudEvents 1.0 requires these"


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_an_id_is_the_same_for_the_same_parts_and_no_others(left: list[str], right: list[str]) -> None:
    assert derived_id(*left) == derived_id(*left)
    separable = not any("\x1f" in part for part in left + right)
    if separable and "\x1f".join(left) != "\x1f".join(right):
        assert derived_id(*left) != derived_id(*right)


def test_an_id_stays_the_same_over_versions() -> None:
    assert derived_id("cause", "artifact.built.v1", 0) == UUID("33a62dfa-5600-5f60-a217-696a4dce24ef")


@given(st.datetimes())
def test_a_time_without_a_zone_is_refused_by_writers(naive: datetime) -> None:
    pushed = BY_TYPE["source.pushed.v1"](
        project="p", repository="r", ref="r", commit="0" * 40, forge="gitea", delivery="1"
    )
    with pytest.raises(ValidationError, match="timezone"):
        envelop(pushed, event_id=UUID(int=1), source="s", time=naive, correlation_id=UUID(int=2))


@every_payload
@settings(max_examples=5)
@given(data=st.data(), naive=st.datetimes())
def test_a_time_without_a_zone_is_refused_by_readers(
    payload: type[Payload], data: st.DataObject, naive: datetime
) -> None:
    document = {**data.draw(current_documents(payload)), "time": naive.isoformat()}
    with pytest.raises(ValidationError, match="timezone"):
        decoded(payload, document)


def test_the_catalogue_lists_every_payload_once() -> None:
    assert set(PAYLOADS) == set(payload_classes())
    assert len(BY_TYPE) == len(PAYLOADS)


@every_payload
def test_a_type_is_domain_action_and_major_version(payload: type[Payload]) -> None:
    match = re.fullmatch(r"([a-z]+)\.([a-z][a-z_]*)\.v([1-9][0-9]*)", payload.TYPE)
    assert match
    assert payload.__module__ == f"shared.events.{match[1]}", "the domain is the module"


@every_payload
def test_events_are_past_participles_and_commands_imperatives(payload: type[Payload]) -> None:
    words = re.findall(r"[A-Z][a-z]+", payload.__name__)
    if issubclass(payload, Command):
        assert words[0] in IMPERATIVES
    else:
        assert any(word.endswith("ed") or word in IRREGULAR_PARTICIPLES for word in words[1:])
