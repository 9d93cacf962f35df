"""The documents that are rendered from routing tables."""

from typing import Any

import pytest

from edgeloop.contracts import tables
from edgeloop.contracts.asyncapi import address_of, asyncapi
from edgeloop.contracts.openapi import ENDPOINTS, openapi
from edgeloop.contracts.participants import Outside, Participant
from edgeloop.contracts.tables import MarkersMissingError
from shared.bus.topology import STREAMS
from shared.events.artifact import ArtifactBuilt
from shared.events.catalogue import PAYLOADS
from shared.events.device import InstallRelease
from shared.events.source import SourcePushed
from shared.runtime.handlers import Emissions, every, handles, handles_telemetry, works_on
from shared.telemetry import Telemetry


@handles(ArtifactBuilt, emits=(SourcePushed,))
async def _react(*_: object) -> Emissions:
    return ()


@works_on(InstallRelease, concurrency=3, key=lambda order: order.device, emits=(ArtifactBuilt,))
async def _install(*_: object) -> Emissions:
    return ()


@handles_telemetry()
async def _watch(*_: object) -> Emissions:
    return ()


@every(2.5, emits=(SourcePushed,))
async def _remind(*_: object) -> Emissions:
    return ()


EXAMPLE = Participant(
    "some_service", "services/some_service", (_react, _install, _watch, _remind), Outside("a call", (Telemetry,))
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi([EXAMPLE], STREAMS, version="1.2.3", telemetry_proto="syntax")


def resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for item in node for found in references(item)] if isinstance(node, list) else []


def test_every_reference_inside_the_asyncapi_document_resolves(document: dict[str, Any]) -> None:
    inside = [reference for reference in references(document) if reference.startswith("#/")]
    assert inside
    for reference in inside:
        assert resolve(document, reference)


def test_every_message_has_a_channel_with_its_subject_and_stream(document: dict[str, Any]) -> None:
    addresses = {channel["address"]: channel["x-nats-stream"] for channel in document["channels"].values()}
    assert addresses.keys() == {address_of(message) for message in [*PAYLOADS, Telemetry]}
    assert addresses["edgeloop.cmd.{receiver}.device.install_release.v1"] == "COMMANDS"
    assert addresses["edgeloop.evt.{project}.artifact.built.v1"] == "EVENTS"
    assert addresses["edgeloop.tel.{project}.{gateway}"] == "TELEMETRY"


def test_every_parameter_of_a_subject_is_explained(document: dict[str, Any]) -> None:
    for channel in document["channels"].values():
        assert {f"{{{name}}}" for name in channel["parameters"]} == {
            part for part in channel["address"].split(".") if part.startswith("{")
        }


def test_operations_follow_the_routing_table(document: dict[str, Any]) -> None:
    durables = {name: operation.get("x-nats-durable") for name, operation in document["operations"].items()}
    assert durables == {
        "some_service.receive.artifact.built.v1": "some_service",
        "some_service.receive.device.install_release.v1": "{receiver}-install-release",
        "some_service.receive.telemetry.batch.v1": "some_service",
        "some_service.send.source.pushed.v1": None,
        "some_service.send.artifact.built.v1": None,
        "some_service.send.telemetry.batch.v1": None,
    }


def test_a_services_table_says_what_comes_in_how_it_runs_and_what_goes_out() -> None:
    pushed = "[SourcePushed](../../proto/events/source.pushed.v1.json)"
    built = "[ArtifactBuilt](../../proto/events/artifact.built.v1.json)"
    install = "[InstallRelease](../../proto/commands/device.install_release.v1.json)"
    batch = "[TelemetryBatch](../../proto/edgeloop/telemetry/v1/telemetry.proto)"
    assert tables.events_of(EXAMPLE).splitlines()[2:] == [
        f"| {built} | handler, in one transaction | {pushed} |",
        f"| {install} | worker, 3 at a time, in order per key | {built} |",
        f"| {batch} | handler, in one transaction |  |",
        f"| time | timer, every 2.5 s | {pushed} |",
        f"| a call |  | {batch} |",
    ]


def test_a_table_replaces_what_is_between_its_markers_and_nothing_else() -> None:
    readme = f"# One\n\n{tables.BEGIN}\nold\n{tables.END}\n\nAfter.\n"
    once = tables.with_events(readme, "new\n", where="README.md")
    assert once == f"# One\n\n{tables.BEGIN}\nnew\n{tables.END}\n\nAfter.\n"
    assert tables.with_events(once, "new\n", where="README.md") == once


@pytest.mark.parametrize("readme", ["", tables.BEGIN, f"{tables.END}{tables.BEGIN}", f"{tables.BEGIN}{tables.END}" * 2])
def test_a_readme_without_its_markers_is_named(readme: str) -> None:
    with pytest.raises(MarkersMissingError, match=r"services/x/README\.md: needs one line"):
        tables.with_events(readme, "", where="services/x/README.md")


def test_the_manifest_reference_has_the_keys_of_nested_sections_lists_and_mappings() -> None:
    reference = tables.manifest_reference()
    for key in ("data.prepare.timeout_s", "rollout.stages[].percent", "budgets.<name>.flash_bytes", "gates.accuracy"):
        assert f"| `{key}` |" in reference


def test_every_endpoint_is_in_the_openapi_document_with_its_answers() -> None:
    paths = openapi("1.2.3")["paths"]
    for endpoint in ENDPOINTS:
        operation = paths[endpoint.path][endpoint.method]
        assert set(operation["responses"]) == {str(status) for status in endpoint.answers}
        assert [one["name"] for one in operation.get("parameters", [])] == list(endpoint.headers)
