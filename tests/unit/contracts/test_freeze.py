"""The frozen baseline and what breaks it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.contracts import freeze
from edgeloop.contracts.freeze import Frozen, FrozenError, parse, render, violations
from edgeloop.contracts.schemas import MANIFEST_PATH

EVENT = "proto/events/a.done.v1.json"
WIRE = "proto/edgeloop/telemetry/v1/telemetry.proto"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FIELDS = {"messages": {"Report": {"1": "string device", "2": "repeated uint32 counts"}}}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.text(min_size=1), st.dictionaries(st.text(), JSON), max_size=3))
def test_a_baseline_is_read_as_it_was_written(schemas: dict[str, dict[str, Any]]) -> None:
    frozen = Frozen("1.2.3", schemas)
    assert parse(render(frozen)) == frozen


def test_a_baseline_has_one_line_a_schema_so_that_a_diff_names_what_moved() -> None:
    text = render(Frozen("0.1.0", {EVENT: SCHEMA, WIRE: FIELDS}))
    assert len([line for line in text.splitlines() if "digest" in line]) == 2


def test_an_edit_by_hand_is_caught() -> None:
    document = json.loads(render(Frozen("0.1.0", {EVENT: SCHEMA})))
    del document["schemas"][EVENT]["schema"]["required"]
    with pytest.raises(FrozenError, match=r"a\.done\.v1\.json was edited by hand"):
        parse(json.dumps(document))


@pytest.mark.parametrize("text", ["", "[]", '{"version": "1"}', '{"version": "1", "schemas": {"a": 1}}'])
def test_a_damaged_baseline_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(FrozenError, match=r"HEAD:proto/frozen\.json: not a baseline"):
        parse(text, where="HEAD:proto/frozen.json")


def test_without_a_release_nothing_is_frozen() -> None:
    assert violations(Frozen(), {}) == []


def test_a_frozen_schema_may_not_disappear_but_new_ones_may_come() -> None:
    frozen = Frozen("0.1.0", {EVENT: SCHEMA})
    assert violations(frozen, {EVENT: SCHEMA, "proto/events/b.done.v1.json": SCHEMA}) == []
    assert violations(frozen, {}) == [
        f"{EVENT}: frozen by 0.1.0 and gone; keep it, and add the next major version beside it"
    ]


def test_a_message_may_not_be_widened_and_the_manifest_may() -> None:
    wider = {**SCHEMA, "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    assert violations(Frozen("0.1.0", {EVENT: SCHEMA}), {EVENT: wider})
    assert violations(Frozen("0.1.0", {MANIFEST_PATH: SCHEMA}), {MANIFEST_PATH: wider}) == []


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"Report": {"1": "string device"}}, "Report: field 2 (repeated uint32 counts) was removed"),
        ({"Report": {"1": "string name", "2": "repeated uint32 counts"}}, "Report: field 1 was 'string device'"),
        ({}, "message Report is gone"),
    ],
)
def test_a_field_number_keeps_its_name_and_type_for_ever(now: dict[str, Any], reason: str) -> None:
    (found,) = violations(Frozen("0.1.0", {WIRE: FIELDS}), {WIRE: {"messages": now}})
    assert found.startswith(f"{WIRE}: {reason}")


def test_the_wire_format_may_gain_fields_and_messages() -> None:
    more = {"messages": {"Report": {**FIELDS["messages"]["Report"], "3": "bool ok"}, "Other": {"1": "bool ok"}}}
    assert violations(Frozen("0.1.0", {WIRE: FIELDS}), {WIRE: more}) == []


def test_a_digest_depends_on_content_and_not_on_the_order_of_keys() -> None:
    assert freeze.digest_of({"a": 1, "b": 2}) == freeze.digest_of({"b": 2, "a": 1}) != freeze.digest_of({"a": 1})
