"""Reads a model card back, and compares its figures with the release index."""

from collections.abc import Iterator
from typing import Final

from shared.artifacts.evidence import blobs_of, require
from shared.releases.release import Firmware, Release

BOARD_COLUMNS: Final = ("board", "flash, bytes", "RAM, bytes", "arena, bytes", "instructions", "version")
"""The table of boards; what else it says stands behind these."""


def board_cells(firmware: Firmware) -> tuple[str, ...]:
    """Return a board's row."""
    sizes = (firmware.flash_bytes, firmware.ram_bytes, firmware.arena_bytes)
    counted = "not counted" if firmware.instructions is None else f"{firmware.instructions:,}"
    return (firmware.board, *(f"{size:,}" for size in sizes), counted, firmware.version)


def check(text: str, release: Release) -> str:
    """Return how many figures agree.

    Raises:
        RefusedError: a figure, a digest or a gate differs from the index.
    """
    rows = list(_rows(text))
    for firmware in release.firmware:
        wanted = board_cells(firmware)
        found = [row[: len(wanted)] for row in rows if row[0] == firmware.board]
        require(found == [wanted], f"the row of {firmware.board} is {found}", f"{wanted}, as the index says")
    named = [*blobs_of(release.model), *blobs_of(release.datasets)]
    missing = [blob.name for blob in named if blob.digest not in text]
    require(not missing, f"the digest of {', '.join(missing)} is not in the card", "every model file and dataset")
    require(release.commit in text, "the card does not name the commit", release.commit)
    return f"{len(release.firmware)} boards, {len(named)} digests"


def _rows(text: str) -> Iterator[tuple[str, ...]]:
    for line in text.splitlines():
        if line.startswith("| ") and line.endswith(" |"):
            yield tuple(cell.strip() for cell in line[2:-2].split(" | "))
