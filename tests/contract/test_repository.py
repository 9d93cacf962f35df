"""The committed contract is the one that the code has, and everyone keeps to it."""

import json
from pathlib import Path
from typing import cast

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from starlette.routing import Route

from edgeloop.contracts import __main__ as command
from edgeloop.contracts.openapi import ENDPOINTS
from edgeloop.contracts.participants import participants
from edgeloop.contracts.schemas import MANIFEST_PATH
from services.source_webhook.adapters import Deps, webhook_routes
from shared.events.catalogue import PAYLOADS
from shared.telemetry import Telemetry

ROOT = Path(__file__).parents[2]


def test_the_committed_contract_matches_the_code_and_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["check"])
    assert code == 0, capsys.readouterr().err


def test_every_message_is_said_by_someone() -> None:
    said = {message for participant in participants(ROOT) for message in participant.emits}
    assert {*PAYLOADS, Telemetry} - said == set()


def test_every_command_and_telemetry_are_heard_by_someone() -> None:
    heard = {message for participant in participants(ROOT) for message in participant.consumes}
    commands = {payload for payload in PAYLOADS if "receiver" in payload.model_fields}
    assert {*commands, Telemetry} <= heard


def test_the_files_that_the_asyncapi_document_refers_to_exist() -> None:
    document = YAML(typ="safe").load(ROOT / "proto/asyncapi.yaml")
    for message in document["components"]["messages"].values():
        schema = message["payload"]["schema"]
        if not isinstance(schema, str):
            assert (ROOT / "proto" / schema["$ref"]).is_file()


def test_the_webhook_service_mounts_the_endpoints_that_are_declared() -> None:
    # Routes are only listed here: what they depend on is needed when a request comes.
    routes = [route for route in webhook_routes(cast("Deps", None)) if isinstance(route, Route)]
    mounted = {(route.path, method.lower()) for route in routes for method in route.methods or ()}
    assert mounted == {(endpoint.path, endpoint.method) for endpoint in ENDPOINTS if endpoint.method == "post"}


def test_the_example_is_valid_by_the_manifest_schema_that_editors_use() -> None:
    schema = json.loads((ROOT / MANIFEST_PATH).read_text("utf-8"))
    for path in (ROOT / "examples").glob("*/edgeloop.yaml"):
        Draft202012Validator(schema).validate(YAML(typ="safe").load(path))
