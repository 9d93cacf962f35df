"""Who takes part, as the routing tables and the folders say."""

from pathlib import Path

from edgeloop.contracts.participants import Participant, participants
from shared.events.dataset import DatasetAdded
from shared.events.source import SourcePushed
from shared.telemetry import Telemetry

ROOT = Path(__file__).parents[3]


def by_name() -> dict[str, Participant]:
    return {participant.name: participant for participant in participants(ROOT)}


def test_every_service_folder_the_gateway_and_the_command_line_take_part() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    assert set(by_name()) == folders | {"device_gateway", "edgeloop"}


def test_what_is_said_outside_of_routes_counts() -> None:
    everyone = by_name()
    assert everyone["source_webhook"].emits == (SourcePushed,)
    assert everyone["edgeloop"].emits == (DatasetAdded,)
    assert Telemetry in everyone["device_gateway"].emits


def test_what_a_route_says_is_not_said_outside_as_well() -> None:
    for participant in by_name().values():
        routed = {message for route in participant.routes for message in route.emits}
        if participant.outside and participant.name != "device_gateway":
            assert not routed & set(participant.outside.emits)
    assert by_name()["rollout_controller"].outside is None


def test_routing_tables_are_read_without_tensorflow() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from edgeloop.contracts.participants import participants;"
        "participants(Path(sys.argv[1]));"
        "heavy = {'tensorflow', 'keras', 'tflite_micro', 'ai_edge_litert', 'unicorn'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"importing a handlers.py loads {done.stderr}"
