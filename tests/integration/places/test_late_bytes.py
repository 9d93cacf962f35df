"""What a holder wrote too late, or was still writing, does not reach a board at a pseudo terminal or a socket."""

import asyncio
import os
import socket
import tty
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from shared.boards import image_board
from shared.bus.exchanges import RefusedError
from shared.lab.messages import ConsoleOutput, Grant, Shut, Touch
from shared.lab.verdict import AttemptOutcome
from shared.places.agent import PlaceAgent
from shared.places.at_port import PortRig
from shared.places.flashing import IMAGE, FlashProgram
from shared.places.identity import same_board, usb_identity
from tests.integration.device_lab.workshop import Workshop
from tests.integration.places.gesture_work import BOARD, Orders, done
from tests.support import eventually, wait_until
from tests.unit.places.place_world import fetched

MUCH = b"1" * 4_000_000
"""More than any buffer on the way holds."""


@dataclass
class Terminal:
    """A pseudo terminal: the board's end, and the path of the port."""

    end: int
    path: str

    def arrived(self) -> bytes:
        """Return what has reached the board since it was asked last."""
        found = b""
        with suppress(BlockingIOError):
            while part := os.read(self.end, 65536):
                found += part
        return found


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    end, port = os.openpty()
    for descriptor in (end, port):
        tty.setraw(descriptor)
    os.set_blocking(end, False)
    yield Terminal(end, os.ttyname(port))
    os.close(end)
    os.close(port)


def place_at(port: str, orders: Orders | None = None, heard: list[ConsoleOutput] | None = None) -> PlaceAgent:
    program = FlashProgram(["true", IMAGE], port)
    rig = PortRig("a", image_board(BOARD), port, flasher=program)
    fetch = fetched if orders is None else orders.blobs.get
    return PlaceAgent("rack", [rig], fetch, publish=(lambda _output: None) if heard is None else heard.append)


async def grant(agent: PlaceAgent, token: int) -> None:
    await agent.grant(Grant(board="a", token=token, ttl_s=600))


async def write(agent: PlaceAgent, token: int, data: bytes) -> None:
    await agent.touch(Touch(board="a", token=token, write=data))


async def test_only_the_holders_bytes_arrive(terminal: Terminal) -> None:
    agent = place_at(terminal.path)
    await grant(agent, 1)
    await write(agent, 1, b"one")
    assert wait_until(terminal.arrived) == b"one"
    await grant(agent, 2)
    with pytest.raises(RefusedError, match="found token 1, allowed is 2"):
        await write(agent, 1, b"late")
    await write(agent, 2, b"two")
    assert wait_until(terminal.arrived) == b"two"  # before the port is closed, which drops what nobody has read
    await agent.shut(Shut(board="a", token=2))
    with pytest.raises(RefusedError, match="when it was given back"):
        await write(agent, 2, b"late")
    await agent.close()
    assert terminal.arrived() == b""


async def test_a_former_holders_long_write_does_not_go_on_at_a_terminal(terminal: Terminal) -> None:
    agent = place_at(terminal.path)
    await grant(agent, 1)
    writing = asyncio.create_task(write(agent, 1, MUCH))
    await eventually(terminal.arrived)  # and then nobody reads any more
    await grant(agent, 2)
    with pytest.raises(RefusedError, match="ended in the middle of it"):
        await writing
    assert len(terminal.arrived()) < len(MUCH)  # it was there before
    await write(agent, 2, b"2")
    assert wait_until(terminal.arrived) == b"2"
    await agent.close()


def drained(end: socket.socket) -> bytes:
    """Return all that comes until the connection ends, in order or not."""
    found = b""
    with suppress(ConnectionResetError):
        while part := end.recv(65536):
            found += part
    return found


async def test_a_former_holders_long_write_does_not_go_on_at_a_socket() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        agent = place_at(f"socket://127.0.0.1:{server.getsockname()[1]}")
        await grant(agent, 1)
        writing = asyncio.create_task(write(agent, 1, MUCH))
        first, _ = await asyncio.to_thread(server.accept)
        with closing(first):
            await asyncio.to_thread(first.recv, 1)
            await grant(agent, 2)
            with pytest.raises(RefusedError, match="ended in the middle of it"):
                await writing
            await write(agent, 2, b"2")
            second, _ = await asyncio.to_thread(server.accept)
            with closing(second):
                assert await asyncio.to_thread(second.recv, 4096) == b"2"
            assert len(drained(first)) < len(MUCH)
        await agent.close()


async def test_what_the_board_says_is_heard_by_its_holder_alone(terminal: Terminal) -> None:
    heard: list[ConsoleOutput] = []
    agent = place_at(terminal.path, heard=heard)
    await grant(agent, 1)
    await write(agent, 1, b"")
    os.write(terminal.end, b"for one")
    await eventually(lambda: b"".join(said.data for said in heard) == b"for one")
    await grant(agent, 2)
    os.write(terminal.end, b"for nobody")
    await write(agent, 2, b"")
    os.write(terminal.end, b"for two")

    def heard_by(token: int) -> bytes:
        return b"".join(said.data for said in heard if said.token == token)

    await eventually(lambda: heard_by(2).endswith(b"for two"))
    assert heard_by(1) == b"for one"
    await agent.close()


async def test_a_port_that_another_program_has_open_is_not_shared(terminal: Terminal) -> None:
    agents = [place_at(terminal.path) for _ in range(2)]  # as in two processes: neither knows of the other's fence
    for agent in agents:
        await grant(agent, 1)
    await write(agents[0], 1, b"first")
    assert wait_until(terminal.arrived) == b"first"  # as above: closing drops what nobody has read
    with pytest.raises(RefusedError, match="cannot be opened"):
        await write(agents[1], 1, b"second")
    await agents[0].close()
    await write(agents[1], 1, b"then second")
    assert wait_until(terminal.arrived) == b"then second"
    await agents[1].close()


def usb_port(path: str, serial_number: str | None, location: str) -> ListPortInfo:
    info = ListPortInfo(path, skip_link_detection=True)
    info.vid, info.pid, info.serial_number, info.location = 0x2341, 0x70, serial_number, location
    return info


async def test_a_board_that_was_swapped_for_another_of_its_kind_is_not_flashed(
    terminal: Terminal, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged = [usb_port(terminal.path, "5C7A11", "1-1.2")]
    monkeypatch.setattr(list_ports, "comports", lambda: plugged)
    orders = Orders(workshop)
    agent = place_at(terminal.path, orders)
    await agent.look_around()
    [offered] = (await agent.announced()).boards
    assert offered.identity == "usb:2341:0070:5C7A11@1-1.2"
    plugged[:] = [usb_port(terminal.path, "99F0B3", "1-1.2")]
    found = await done(agent, "a", 1, orders.work(orders.image(), identity=offered.identity))
    assert found.outcome is AttemptOutcome.SWAPPED
    assert "found 'usb:2341:0070:99F0B3@1-1.2', allowed is 'usb:2341:0070:5C7A11@1-1.2'" in found.said
    await agent.close()
    assert terminal.arrived() == b""


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ("usb:2341:0070:A@1-1", "usb:2341:0070:A@1-1", True),
        ("usb:2341:0070:A@1-2", "usb:2341:0070:A@1-1", True),
        ("usb:2341:0070:A@1-2", "usb:2341:0070:A", True),
        ("usb:2341:0070:B@1-1", "usb:2341:0070:A@1-1", False),
        ("usb:2341:0071:A@1-1", "usb:2341:0070:A@1-1", False),
        ("usb:2341:0070:@1-1", "usb:2341:0070:@1-1", True),
        ("usb:2341:0070:@1-2", "usb:2341:0070:@1-1", False),
        ("usb:2341:0070:@1-2", "usb:2341:0070:", True),
        ("usb:2341:0070:A@1-1", "A", True),
        ("usb:2341:0070:B@1-1", "A", False),
        ("dut:A", "A", False),
        ("dut:edgeloop", "dut:edgeloop", True),
        ("dut:another", "dut:edgeloop", False),
        ("dut:edgeloop", "usb:2341:0070:A@1-1", False),
        ("", "dut:edgeloop", False),
    ],
)
def test_a_board_is_known_by_its_serial_number_else_by_its_path(found: str, wanted: str, same: bool) -> None:
    assert same_board(found, wanted) is same


def test_a_port_that_is_no_usb_device_has_no_usb_identity(terminal: Terminal) -> None:
    assert usb_identity(terminal.path) is None
    assert usb_identity("socket://127.0.0.1:1") is None
