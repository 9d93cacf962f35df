"""A board's flash: five areas that are erased by the sector and otherwise only have bits cleared.

`Flash` lives in memory; `FileFlash` writes every operation through to files, so that a killed process leaves what a
board without power would. Every write and erase is one *operation*; `cut_after` lets a test or a fault take the power
away at any of them, in the middle of it.
"""

import os
from enum import StrEnum
from pathlib import Path

SECTOR_BYTES = 4096
ERASED = 0xFF
_TORN_ERASE_LEAVES_BYTES = 20
"""Enough that a trailer would keep its magic and lose the fields behind it: the worst that a torn erase can leave."""


class Area(StrEnum):
    """The partitions. Trailers are areas of their own here; on a board they are the last sectors of their slot."""

    SLOT0 = "slot0"
    SLOT1 = "slot1"
    SCRATCH = "scratch"
    TRAILER0 = "trailer0"
    TRAILER1 = "trailer1"


class PowerCutError(Exception):
    """The power went away in the middle of a flash operation."""


class FlashError(RuntimeError):
    """An operation that flash cannot do: out of its area, or setting bits without erasing."""


def sectors_for(length: int) -> int:
    """Return how many sectors hold `length` bytes."""
    return -(-length // SECTOR_BYTES)


class Flash:
    """Flash in memory, erased at first."""

    def __init__(self, slot_bytes: int) -> None:
        """Args: slot_bytes: size of each image slot, rounded up to whole sectors."""
        slot = sectors_for(slot_bytes) * SECTOR_BYTES
        sizes = {Area.SLOT0: slot, Area.SLOT1: slot}
        self._areas = {area: bytearray([ERASED]) * sizes.get(area, SECTOR_BYTES) for area in Area}
        self.operations = 0
        self.cut_after: int | None = None
        """The power goes away in the middle of the operation that comes after this many more."""

    def size_bytes(self, area: Area) -> int:
        """Return the size of `area`."""
        return len(self._areas[area])

    def read(self, area: Area, offset: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes, or all there are from `offset`."""
        end = None if length is None else offset + length
        return bytes(self._areas[area][offset:end])

    def write(self, area: Area, offset: int, data: bytes) -> None:
        """Clear bits so that `data` stands at `offset`.

        Raises:
            FlashError: `data` leaves the area, or needs a bit set that only an erase sets.
            PowerCutError: the power went; the first half of `data` is written.
        """
        old = self.read(area, offset, len(data))
        if len(old) != len(data):
            raise FlashError(f"{area}: {len(data)} bytes at {offset} leave its {self.size_bytes(area)} bytes")
        if int.from_bytes(data) & ~int.from_bytes(old):
            raise FlashError(f"{area}: {len(data)} bytes at {offset} are not erased")
        if self._power_goes():
            self._store(area, offset, data[: len(data) // 2])
            raise PowerCutError(f"while writing {area} at {offset}")
        self._store(area, offset, data)

    def erase(self, area: Area, sector: int) -> None:
        """Set every bit of a sector.

        Raises:
            PowerCutError: the power went; the front of the sector is erased, or all but its first bytes.
        """
        blank = bytes([ERASED]) * SECTOR_BYTES
        if self._power_goes():
            torn = slice(SECTOR_BYTES // 2) if self.operations % 2 else slice(_TORN_ERASE_LEAVES_BYTES, None)
            self._store(area, sector * SECTOR_BYTES + (torn.start or 0), blank[torn])
            raise PowerCutError(f"while erasing sector {sector} of {area}")
        self._store(area, sector * SECTOR_BYTES, blank)

    def _power_goes(self) -> bool:
        self.operations += 1
        if self.cut_after is None:
            return False
        self.cut_after -= 1
        if self.cut_after >= 0:
            return False
        self.cut_after = None
        return True

    def _store(self, area: Area, offset: int, data: bytes) -> None:
        self._areas[area][offset : offset + len(data)] = data


class FileFlash(Flash):
    """Flash in one file an area. Survives the process; a power cut of the *host* is not modelled, so no fsync."""

    def __init__(self, directory: Path, slot_bytes: int) -> None:
        """Open the files in `directory`, made erased where there are none."""
        super().__init__(slot_bytes)
        directory.mkdir(parents=True, exist_ok=True)
        self._files: dict[Area, int] = {}
        for area in Area:
            path = directory / f"{area}.bin"
            if path.exists():
                content = path.read_bytes()
                if len(content) != self.size_bytes(area):
                    raise FlashError(
                        f"{path}: {len(content)} bytes, the board's {area} has {self.size_bytes(area)}; "
                        "it belongs to another kind of board: remove the directory to start from the factory"
                    )
                self._areas[area][:] = content
            else:
                path.write_bytes(self._areas[area])
            self._files[area] = os.open(path, os.O_RDWR)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _store(self, area: Area, offset: int, data: bytes) -> None:
        super()._store(area, offset, data)
        os.pwrite(self._files[area], data, offset)
