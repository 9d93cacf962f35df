"""Which changes of a schema keep its major version."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edgeloop.contracts.compatibility import Readers, incompatibilities

NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta"])
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span}, *[st.integers(0, 9)] * 2),
    st.just({"type": "number"}),
    st.just({"type": "boolean"}),
    st.builds(lambda low: {"type": "string", "minLength": low}, st.integers(0, 3)),
    st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(lambda values: {"type": "string", "enum": values}),
    st.just({"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}], "default": None}),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """An object's schema over `inner`."""
    properties = draw(st.dictionaries(NAMES, inner, min_size=1))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    return {"type": "object", "properties": properties, "required": required}


NODES = st.recursive(
    LEAVES, lambda inner: st.one_of(objects(inner), inner.map(lambda s: {"type": "array", "items": s}))
)
SCHEMAS = objects(NODES)


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Everything that a writer of `schema` may say, as far as the schemas above go."""
    if "anyOf" in schema:
        return st.one_of([instances(option) for option in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "array":
        return st.lists(instances(schema["items"]), max_size=3)
    if schema["type"] == "object":
        fields = {name: instances(node) for name, node in schema["properties"].items()}
        required = {name: fields.pop(name) for name in schema["required"]}
        return st.fixed_dictionaries(required, optional=fields)
    scalars: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(schema.get("minimum"), schema.get("maximum")),
        "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": st.text(min_size=schema.get("minLength", 0), max_size=6),
    }
    return scalars[schema["type"]]


def objects_in(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object's schema inside `schema`, itself included."""
    below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    mine = [schema] if schema.get("type") == "object" else []
    return mine + [found for node in below for found in objects_in(node)]


@given(SCHEMAS)
def test_a_schema_is_compatible_with_itself(schema: dict[str, Any]) -> None:
    assert incompatibilities(schema, deepcopy(schema)) == []


@given(st.data(), SCHEMAS, NODES)
def test_an_optional_addition_is_compatible_wherever_it_is(
    data: st.DataObject, old: dict[str, Any], added: dict[str, Any]
) -> None:
    new = deepcopy(old)
    data.draw(st.sampled_from(objects_in(new)))["properties"]["added"] = added
    assert incompatibilities(old, new) == []


@given(st.data(), SCHEMAS)
def test_removing_a_property_is_never_compatible(data: st.DataObject, old: dict[str, Any]) -> None:
    new = deepcopy(old)
    node = data.draw(st.sampled_from(objects_in(new)))
    name = data.draw(st.sampled_from(sorted(node["properties"])))
    del node["properties"][name]
    node["required"] = [other for other in node["required"] if other != name]
    assert any(f".{name}: was removed or renamed" in reason for reason in incompatibilities(old, new))


@given(st.data(), SCHEMAS, NODES)
def test_a_new_required_property_is_never_compatible(
    data: st.DataObject, old: dict[str, Any], added: dict[str, Any]
) -> None:
    new = deepcopy(old)
    node = data.draw(st.sampled_from(objects_in(new)))
    node["properties"]["added"] = added
    node["required"] = [*node["required"], "added"]
    assert any("added: the reader requires it" in reason for reason in incompatibilities(old, new))


@given(st.data(), SCHEMAS)
def test_what_a_required_property_was_must_stay_required(data: st.DataObject, old: dict[str, Any]) -> None:
    assume(any(node["required"] for node in objects_in(old)))
    new = deepcopy(old)
    node = data.draw(st.sampled_from([node for node in objects_in(new) if node["required"]]))
    name = node["required"].pop()
    reasons = incompatibilities(old, new)
    assert [reason for reason in reasons if f".{name}: the reader requires it" in reason]
    assert all(reason.endswith("(old code, new data)") for reason in reasons)


@given(st.data(), SCHEMAS)
def test_whenever_one_side_refuses_what_the_other_writes_the_change_is_incompatible(
    data: st.DataObject, old: dict[str, Any]
) -> None:
    new = deepcopy(old)
    node = data.draw(st.sampled_from(objects_in(new)))
    node["properties"] |= data.draw(st.dictionaries(NAMES, NODES, max_size=2))
    node["required"] = data.draw(st.lists(st.sampled_from(sorted(node["properties"])), unique=True))
    agreed = Draft202012Validator(new).is_valid(data.draw(instances(old)))
    agreed &= Draft202012Validator(old).is_valid(data.draw(instances(new)))
    assert agreed or incompatibilities(old, new)


@given(st.data(), LEAVES, LEAVES)
def test_whenever_a_new_reader_refuses_an_old_value_the_change_is_incompatible(
    data: st.DataObject, old: dict[str, Any], new: dict[str, Any]
) -> None:
    agreed = Draft202012Validator(new).is_valid(data.draw(instances(old)))
    assert agreed or incompatibilities(old, new, readers=Readers.NEW)


STRING = {"type": "string"}
OPTIONAL = {"anyOf": [{"type": "string"}, {"type": "null"}]}
DEFINED: dict[str, Any] = {
    "properties": {"p": {"$ref": "#/$defs/T"}},
    "$defs": {"T": {"type": "object", "properties": {"a": STRING}}},
}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"type": "string"}, {"type": "integer"}, "$.p: type is string for the writer, integer for the reader"),
        ({"type": "number"}, {"type": "integer"}, "$.p: type is number for the writer, integer for the reader"),
        (OPTIONAL, STRING, "$.p: type is null for the writer, string for the reader"),
        (STRING, OPTIONAL, "$.p: type is null for the writer, string for the reader (old code, new data)"),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, "$.p: the writer may say 'b', the reader allows only a (new code"),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, "$.p: the writer may say 'b', the reader allows only a (old code"),
        ({"const": 1}, {"const": 2}, "$.p: the writer may say 1, the reader allows only 2"),
        (STRING, {"type": "string", "enum": ["a"]}, "$.p: the reader allows only a"),
        (STRING, {"type": "string", "format": "uuid"}, "$.p: format is unset for the writer, 'uuid' for the reader"),
        ({"pattern": "a"}, {"pattern": "b"}, "$.p: pattern is 'a' for the writer, 'b' for the reader"),
        ({"minimum": 0}, {"minimum": 1}, "$.p: minimum is 0 for the writer, 1 for the reader (new code"),
        ({"minimum": 1}, {"minimum": 0}, "$.p: minimum is 0 for the writer, 1 for the reader (old code"),
        ({"maxItems": 4}, {"maxItems": 3}, "$.p: maxItems is 4 for the writer, 3 for the reader"),
        ({"items": STRING}, {"items": {"type": "null"}}, "$.p[*]: type is string for the writer, null for the reader"),
        ({}, {"uniqueItems": True}, "$.p: uniqueItems is unset for the writer, True for the reader"),
        (
            {"prefixItems": [STRING]},
            {"prefixItems": [STRING] * 2},
            "$.p: the writer names 1 leading items, the reader 2",
        ),
        ({}, {"additionalProperties": False, "properties": {}}, "$.p"),
        (
            {"additionalProperties": {"type": "string"}},
            {"additionalProperties": {"type": "null"}},
            "$.p.*: type is string for the writer, null for the reader",
        ),
        (
            {"patternProperties": {"^a": {"properties": {"x": STRING}}}},
            {"patternProperties": {"^a": {"properties": {}}}},
            "$.p.<^a>.x: was removed or renamed",
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
            "$.p: none of 2 alternatives accepts type string",
        ),
    ],
)
def test_a_narrowing_or_widening_is_named_with_its_path(old: dict[str, Any], new: dict[str, Any], reason: str) -> None:
    found = incompatibilities({"properties": {"p": old}}, {"properties": {"p": new}})
    if old == {} and new.get("additionalProperties") is False:
        # An empty schema writes nothing under names of its own: closing it refuses nothing that was ever said.
        assert found == []
    else:
        assert any(text.startswith(reason) for text in found), found


def test_a_change_behind_a_reference_is_found() -> None:
    new = deepcopy(DEFINED)
    new["$defs"]["T"] = {"type": "object", "properties": {"b": STRING}}
    assert incompatibilities(DEFINED, new) == ["$.p.a: was removed or renamed"]


def test_a_change_behind_a_reference_in_a_keyword_that_the_check_does_not_know_is_found() -> None:
    old: dict[str, Any] = {"if": {"$ref": "#/$defs/T"}, "$defs": {"T": STRING}}
    assert incompatibilities(old, deepcopy(old)) == []
    assert incompatibilities(old, {**old, "$defs": {"T": OPTIONAL}}) != []


def test_a_schema_that_refers_to_itself_ends() -> None:
    tree: dict[str, Any] = {
        "$ref": "#/$defs/T",
        "$defs": {
            "T": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}}}
        },
    }
    assert incompatibilities(tree, deepcopy(tree)) == []


def test_words_about_a_field_may_change() -> None:
    assert incompatibilities({**STRING, "description": "old"}, {**STRING, "title": "New", "deprecated": True}) == []


def test_what_only_people_write_may_be_widened_but_not_narrowed() -> None:
    narrow = {"type": "object", "additionalProperties": False, "properties": {"a": {"enum": [1]}}, "required": ["a"]}
    wide = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"a": {"enum": [1, 2]}, "b": STRING},
        "required": [],
    }
    assert incompatibilities(narrow, wide, readers=Readers.NEW) == []
    assert len(incompatibilities(wide, narrow, readers=Readers.NEW)) >= 3
    assert incompatibilities(narrow, wide) != []
