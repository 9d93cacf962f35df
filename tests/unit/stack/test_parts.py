"""The parts of the local stack, without any service."""

import json
import os
import socket
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from device_gateway.config import read_config
from device_gateway.virtual.settings import VirtualConfig
from edgeloop.errors import InfrastructureError
from edgeloop.layout import Layout, write_private
from edgeloop.stack.disk import Room, message, room_of
from edgeloop.stack.fleet import Fleet, devices_of, gateway_yaml, virtual_yaml
from edgeloop.stack.lock import exclusive
from edgeloop.stack.ports import Ports
from edgeloop.stack.secrets import ensure_signing_key, ensure_webhook_secret
from edgeloop.stack.stack import require_space


def test_a_second_stack_in_one_directory_is_refused_with_the_holders_id(tmp_path: Path) -> None:
    lock = Layout(tmp_path).lock_file
    with exclusive(lock), pytest.raises(InfrastructureError, match=str(os.getpid())), exclusive(lock):
        pass
    with exclusive(lock):
        pass


def test_a_port_in_use_that_was_asked_for_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InfrastructureError, match=f"port {port} for source_webhook is in use"):
            Ports(tmp_path / "ports.json", {"source_webhook": port}).require_asked()


def test_a_remembered_port_is_taken_again_while_it_is_free(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        Ports(file, {}).remember("nats", port)
        assert Ports(file, {}).wanted("nats") == 0
    assert Ports(file, {}).wanted("nats") == port
    assert Ports(file, {"nats": 7}).wanted("nats") == 7
    assert Ports(file, {}).wanted("source_webhook") == 0


def test_a_broken_file_of_ports_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text("{")
    assert Ports(file, {}).wanted("nats") == 0


def test_a_disk_that_is_almost_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop.stack.stack.LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(InfrastructureError, match="MiB are free"):
        require_space(tmp_path)


def test_keys_and_secret_are_private_and_made_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    ensure_signing_key(layout)
    secret = ensure_webhook_secret(layout)
    before = layout.signing_key.read_bytes()
    ensure_signing_key(layout)
    assert layout.signing_key.read_bytes() == before
    assert ensure_webhook_secret(layout) == secret
    assert len(secret) == 64
    assert {file.stat().st_mode & 0o777 for file in (layout.signing_key, layout.webhook_secret)} == {0o600}


def test_the_virtual_boards_understand_their_configuration(tmp_path: Path) -> None:
    layout, fleet = Layout(tmp_path), Fleet(boards=5, project="acme-gait", world=tmp_path / 'a "world".npz')
    config = tmp_path / "virtual.yaml"
    config.write_text(virtual_yaml(fleet, layout, state_file=layout.state_file_of("virtual"), http_port=0))
    read = VirtualConfig.read(config)
    assert read.world == fleet.world
    assert [(board.id, board.board) for board in read.boards] == [tuple(one.values()) for one in devices_of(fleet)]
    assert len({board.board for board in read.boards}) == 3


def test_the_gateway_understands_its_configuration(tmp_path: Path) -> None:
    fleet = Fleet(boards=2, project="acme-gait", world=tmp_path)
    listening = [
        device | {"driver": "smp-udp", "address": f"udp://127.0.0.1:{7000 + index}", "model": False}
        for index, device in enumerate(devices_of(fleet))
    ]
    file = tmp_path / "gateway.yaml"
    file.write_text(gateway_yaml(fleet, listening))
    read = read_config(file)
    assert (read.gateway, read.project, len(read.devices)) == ("local", "acme-gait", 2)
    assert YAML(typ="safe").load(file)["devices"][1]["address"] == "udp://127.0.0.1:7001"


@pytest.mark.parametrize("listening", [None, {"error": "no"}, [1], [{"id": "a"}]])
def test_a_host_that_lists_something_else_is_an_error(tmp_path: Path, listening: object) -> None:
    with pytest.raises(InfrastructureError, match="listed its boards"):
        gateway_yaml(Fleet(boards=1, project="p", world=tmp_path), listening)


def test_a_stack_whose_process_is_gone_is_not_running(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    state = {"pid": os.getpid(), "nats_url": "nats://x", "webhook_url": "http://x", "services": {}}
    write_private(layout.stack_file, json.dumps(state))
    assert layout.stack_state() is not None
    write_private(layout.stack_file, json.dumps(state | {"pid": 2**22 + 1}))
    assert layout.stack_state() is None


def test_a_file_that_could_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_private(tmp_path / "taken", "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("free_bytes", "room", "said"),
    [
        (2**30, Room.ENOUGH, "room again"),
        (200 * 2**20, Room.LOW, "200 MiB are free"),
        (4096, Room.FULL, "disk is full"),
    ],
)
def test_a_disk_that_fills_up_is_said(free_bytes: int, room: Room, said: str) -> None:
    assert room_of(free_bytes) is room
    assert said in message(Path("/data"), room, free_bytes)
