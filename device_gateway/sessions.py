"""The gateway's boards: one driver each, one caller at a time."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from device_gateway.config import DeviceEntry
from device_gateway.domain import Sighting
from device_gateway.drivers import Driver, drivers
from shared.boards import ImageBoard, image_board
from shared.events.lab import BoardClass


@dataclass(slots=True)
class Session:
    """A board, how to speak to it, and what is known of it. Hold `lock` while speaking: drivers are not re-entrant."""

    entry: DeviceEntry
    board: ImageBoard
    driver: Driver
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    board_class: BoardClass | None = None
    """None until it answered once."""
    sighting: Sighting | None = None


def open_sessions(devices: Iterable[DeviceEntry]) -> Mapping[str, Session]:
    """Return a session for each device; nothing is sent before the first request."""
    return {
        entry.id: Session(entry, board := image_board(entry.board), drivers()[entry.driver](entry.address, board))
        for entry in devices
    }
