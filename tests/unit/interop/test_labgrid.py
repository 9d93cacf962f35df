"""A labgrid place as a board: against a client that prints what labgrid 26.0 prints, and against labgrid itself."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.interop.labgrid import (
    BorrowedPlace,
    LabgridError,
    LabgridMissingError,
    NoConsoleError,
    PlaceLostError,
    PlaceTakenError,
    parse_show,
)
from tests.labgrid_client import install_client, port


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_client(tmp_path, port())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_a_place_is_ours_and_then_free_again(lab: Path) -> None:
    with BorrowedPlace("board1") as place:
        console = place.console()
        assert (console.url, console.speed) == ("rfc2217://rack:4711", 9600)
        assert (lab / "holder").exists()
    assert not (lab / "holder").exists()


def test_it_is_released_when_the_job_fails(lab: Path) -> None:
    with pytest.raises(ZeroDivisionError), BorrowedPlace("board1"):
        raise ZeroDivisionError
    assert not (lab / "holder").exists()


def test_it_is_released_when_its_state_cannot_be_read(lab: Path) -> None:
    (lab / "resources").write_text("Acquired resource 'x' (a/b/c/x):\n  <object>\n")
    with pytest.raises(LabgridError, match="no Python literal"), BorrowedPlace("board1"):
        pass
    assert not (lab / "holder").exists()


def test_a_taken_place_is_told(lab: Path) -> None:
    (lab / "holder").write_text("rack/ada")
    with pytest.raises(PlaceTakenError, match="already acquired by rack/ada"), BorrowedPlace("board1"):
        pass
    assert (lab / "holder").read_text() == "rack/ada"


@pytest.mark.parametrize("now", ["rack/ada", ""])
def test_a_place_that_was_taken_away_is_noticed(lab: Path, now: str) -> None:
    place = BorrowedPlace("board1")
    place.__enter__()
    (lab / "holder").unlink()
    if now:
        (lab / "holder").write_text(now)
    for used in (place.console, place.require, place.__exit__):
        with pytest.raises(PlaceLostError, match="no longer ours"):
            used()
    assert (lab / "holder").exists() == bool(now)


def test_an_unknown_place_is_told(lab: Path) -> None:  # noqa: ARG001 - its client is on the PATH
    with pytest.raises(LabgridError, match="board2 matches nothing"), BorrowedPlace("board2"):
        pass


@pytest.mark.parametrize(
    ("resources", "wanted", "found"),
    [
        (port(protocol="raw"), "", "socket://rack:4711"),
        (port("a") + port("b", "USBSerialPort"), "b", "rfc2217://rack:4711"),
        (port("a") + port("b"), "", None),
        (port(avail=False), "", None),
        (port(cls="NetworkPowerPort"), "", None),
        ("", "", None),
    ],
)
def test_one_serial_port_that_is_up_is_the_console(lab: Path, resources: str, wanted: str, found: str | None) -> None:
    (lab / "resources").write_text(resources)
    with BorrowedPlace("board1", port=wanted) as place:
        if found:
            assert place.console().url == found
        else:
            with pytest.raises(NoConsoleError, match="it shares"):
                place.console()


def test_a_missing_client_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabgridMissingError, match="pip install labgrid"), BorrowedPlace("board1"):
        pass


def test_what_is_no_state_is_told() -> None:
    with pytest.raises(LabgridError, match="who has the place"):
        parse_show("usage: labgrid-client")


@contextlib.contextmanager
def running(*command: str, log: Path) -> Iterator[None]:
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield
        finally:
            process.terminate()


def succeeded(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("labgrid-coordinator") is None, reason="no labgrid on the PATH: `pip install labgrid`")
def test_a_place_of_a_real_labgrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LG_COORDINATOR", coordinator)
    (tmp_path / "rack.yaml").write_text("rack:\n  NetworkSerialPort: {host: rack, port: 4711, protocol: raw}\n")
    patience = time.monotonic() + 240
    with contextlib.ExitStack() as lab:
        lab.enter_context(running("labgrid-coordinator", "-l", coordinator, log=tmp_path / "coordinator.log"))
        while not succeeded("labgrid-client", "-p", "board1", "create"):
            assert time.monotonic() < patience, (tmp_path / "coordinator.log").read_text()
        # An exporter that finds no coordinator ends, so it comes second.
        exporter = ("labgrid-exporter", "-c", coordinator, "-n", "x", "rack.yaml")
        lab.enter_context(running(*exporter, log=tmp_path / "exporter.log"))
        assert succeeded("labgrid-client", "-p", "board1", "add-match", "x/rack/NetworkSerialPort")
        show = ("labgrid-client", "-p", "board1", "show")
        while "avail" not in subprocess.run(show, capture_output=True, text=True, timeout=60, check=True).stdout:
            assert time.monotonic() < patience, (tmp_path / "exporter.log").read_text()
        with BorrowedPlace("board1", coordinator=coordinator) as place:
            assert place.console().url == "socket://rack:4711"
            with pytest.raises(PlaceTakenError), BorrowedPlace("board1"):
                pass
        place = BorrowedPlace("board1").__enter__()
        assert succeeded("labgrid-client", "-p", "board1", "release", "--kick")
        with pytest.raises(PlaceLostError):
            place.console()
