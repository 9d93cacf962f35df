"""Hosts virtual boards: one UDP port each, remembered, and what they share."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from device_gateway.images import ImageError, check_fit, verify_image
from device_gateway.virtual.board import Power, VirtualBoard
from device_gateway.virtual.bootloader import Verify
from device_gateway.virtual.ledger import Ledger
from device_gateway.virtual.models import Models
from device_gateway.virtual.provisioning import factory_image, factory_key
from device_gateway.virtual.sensor import Sensor, Surroundings
from device_gateway.virtual.settings import VirtualConfig
from device_gateway.virtual.world import Playlist, World
from shared.artifacts.keys import PublicKey, load_public_key
from shared.boards import ImageBoard, image_board
from shared.emulation.mcuboot_image import McubootImage

_logger = logging.getLogger(__name__)
HOST = "127.0.0.1"


class Host:
    """Every board of the process, the world they are in and the score."""

    def __init__(self, boards: dict[str, VirtualBoard], world: World | None, surroundings: Surroundings) -> None:
        self.boards = boards
        self.world = world
        self.surroundings = surroundings
        self.ledger = Ledger()
        self.ports: dict[str, int] = {}

    def describe(self) -> list[dict[str, str | bool]]:
        """Return what runs on each board and where it answers."""
        return [
            {
                "id": name,
                "board": board.board.name,
                "driver": "smp-udp",
                "address": f"udp://{HOST}:{self.ports[name]}",
                "image_hash": board.running.image_hash if board.running else "",
                "version": board.running.version.removesuffix("+0") if board.running else "",
                "model": board.running is not None and board.running.model_digest is not None,
                "state": (
                    board.power.value if board.power is not Power.ON else "trial" if board.is_trial else "confirmed"
                ),
            }
            for name, board in self.boards.items()
        ]


class _BoardPort(asyncio.DatagramProtocol):
    """A board's UDP socket. It stays open while the board is off, so that its port stays its own."""

    def __init__(self, board: VirtualBoard) -> None:
        self._board = board
        self._requests: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Hand a request to the board."""
        task = asyncio.create_task(self._board.receive(data, lambda frame: self._transport.sendto(frame, addr)))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)


def _verifier(keys: tuple[PublicKey, ...], board: ImageBoard) -> Verify:
    def verify(slot: bytes) -> McubootImage | None:
        try:
            image = verify_image(slot, keys)
            check_fit(image, board)
        except ImageError:
            return None
        return image

    return verify


@asynccontextmanager
async def running_host(config: VirtualConfig) -> AsyncIterator[Host]:
    """Switch every board on; at the end switch them off.

    Raises:
        PublicKeyError: the release key is not readable.
        WorldError: the world is not readable.
        FlashError: flash files belong to another kind of board.
    """
    factory_pem = config.flash / "factory.pem"
    keys: tuple[PublicKey, ...] = (factory_key(factory_pem),)
    if config.verify_key is not None:
        keys = (load_public_key(config.verify_key), *keys)
    world = World(config.world) if config.world else None
    surroundings = Surroundings.resume(config.flash / "environment", world.environments if world else ())
    host, models = Host({}, world, surroundings), Models()
    transports = []
    try:
        for index, entry in enumerate(config.boards):
            kind, directory = image_board(entry.board), config.flash / entry.id
            playlist = Playlist(world, index, config.seed) if world else None
            sensor = Sensor(entry.id, config.period_s, surroundings, playlist, host.ledger)
            board = VirtualBoard(kind, directory, verify=_verifier(keys, kind), models=models, sensor=sensor)
            host.boards[entry.id] = board
            if board.is_blank:
                board.program(factory_image(kind, factory_pem))
            transport, host.ports[entry.id] = await _bind(board, directory / "port")
            transports.append(transport)
        for board in host.boards.values():
            board.start()
        yield host
    finally:
        for transport in transports:
            transport.close()
        for board in host.boards.values():
            await board.stop()
        await models.close()


async def _bind(board: VirtualBoard, remembered: Path) -> tuple[asyncio.DatagramTransport, int]:
    """Open the board's port: the one it had, or a free one that it will have from now on."""
    loop = asyncio.get_running_loop()
    port = _remembered_port(remembered)
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: _BoardPort(board), local_addr=(HOST, port))
    except OSError:
        _logger.warning("%s: port %d is taken, it moves to another", board.name, port)
        transport, _ = await loop.create_datagram_endpoint(lambda: _BoardPort(board), local_addr=(HOST, 0))
    port = transport.get_extra_info("sockname")[1]
    if port != _remembered_port(remembered):
        _remember_port(remembered, port)
    return transport, port


def _remembered_port(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text) if text.isdecimal() else 0


def _remember_port(path: Path, port: int) -> None:
    path.write_text(str(port))
