"""The boards of the device lab at this gateway: a place's agent beside the sessions of the fleet."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.client import Client

from device_gateway.config import GatewayConfig, LabBoardEntry
from shared.boards import image_board
from shared.places.at_port import PortRig
from shared.places.flashing import FlashProgram
from shared.places.serving import serve_place


async def serve_lab(config: GatewayConfig, nc: Client, fetch: Callable[[str], Awaitable[bytes]]) -> None:
    """Answer for the lab's boards until cancelled; without any there is nothing to do."""
    if config.lab is None:
        await asyncio.Event().wait()
        return
    rigs = [port_rig(entry) for entry in config.lab.boards]
    await serve_place(nc, config.lab.place or config.gateway, rigs, fetch)


def port_rig(entry: LabBoardEntry) -> PortRig:
    """Return what touches a board; its port is opened when somebody needs it."""
    return PortRig(
        entry.name,
        image_board(entry.board),
        entry.port,
        baud=entry.baud,
        identity=entry.identity,
        flasher=FlashProgram(entry.flash, entry.port) if entry.flash else None,
    )
