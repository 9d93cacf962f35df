"""The boards of the device lab at this gateway: a place's agent beside the sessions of the fleet."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.client import Client

from device_gateway.config import GatewayConfig, LabBoardEntry
from shared.boards import image_board
from shared.interop.labgrid import SharedPort
from shared.lab.inventory import LABGRID
from shared.places.at_labgrid import LabgridRig
from shared.places.at_port import PortRig
from shared.places.flashing import FlashProgram
from shared.places.rig import Rig
from shared.places.serving import serve_place


async def serve_lab(config: GatewayConfig, nc: Client, fetch: Callable[[str], Awaitable[bytes]]) -> None:
    """Answer for the lab's boards until cancelled; without any there is nothing to do."""
    if config.lab is None:
        await asyncio.Event().wait()
        return
    rigs = [rig_of(entry) for entry in config.lab.boards]
    await serve_place(nc, config.lab.place or config.gateway, rigs, fetch)


def rig_of(entry: LabBoardEntry) -> Rig:
    """Return what touches a board; its port is opened, or its place borrowed, when somebody needs it."""
    if not entry.port.startswith(LABGRID):
        return _port_rig(entry, entry.port, entry.baud)

    def at_port(shared: SharedPort) -> PortRig:
        return _port_rig(entry, shared.url, shared.speed)

    return LabgridRig(entry.name, image_board(entry.board), entry.port, at_port)


def _port_rig(entry: LabBoardEntry, port: str, baud: int) -> PortRig:
    return PortRig(
        entry.name,
        image_board(entry.board),
        port,
        baud=baud,
        identity=entry.identity,
        flasher=FlashProgram(entry.flash, port) if entry.flash else None,
    )
