"""Tells whoever runs a stack that its disk fills up: the logs, which are on the same disk, no longer can."""

import asyncio
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Final

from edgeloop.stack.supervisor import Say

LOW_BYTES: Final = 256 * 1024**2
"""Where the artifact builder begins no build any more."""
FULL_BYTES: Final = 1024**2
LOOK_EVERY_S: Final = 5.0


class Room(StrEnum):
    """How much there is."""

    ENOUGH = "enough"
    LOW = "low"
    FULL = "full"


def room_of(free_bytes: int) -> Room:
    """Return what so many free bytes mean."""
    if free_bytes < FULL_BYTES:
        return Room.FULL
    return Room.LOW if free_bytes < LOW_BYTES else Room.ENOUGH


def message(root: Path, room: Room, free_bytes: int) -> str:
    """Return what to say when it has become like that."""
    match room:
        case Room.FULL:
            return f"{root}: the disk is full; nothing is stored, and all work waits. Next: free some space"
        case Room.LOW:
            return (
                f"{root}: {free_bytes // 1024**2} MiB are free; no build begins below {LOW_BYTES // 1024**2} MiB. "
                "Next: free some space"
            )
        case Room.ENOUGH:
            return f"{root}: there is room again; what waited goes on by itself"


async def watch_disk(root: Path, say: Say) -> None:
    """Say every change, for ever."""
    last = Room.ENOUGH
    while True:
        free_bytes = shutil.disk_usage(root).free
        room = room_of(free_bytes)
        if room is not last:
            say(message(root, room, free_bytes))
        last = room
        await asyncio.sleep(LOOK_EVERY_S)
