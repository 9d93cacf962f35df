"""Between Twister's hardware maps and the lab's inventory: entries that lock together are one board of ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.boards import LibraryBoard, LibraryKind, catalogue
from shared.interop.twister import HardwareMapError, MappedBoard, by_lock
from shared.lab.inventory import InventoryBoard, TwisterEntry


@dataclass(frozen=True, slots=True)
class Imported:
    """The inventory after an import, and why some boards of the map are not in it."""

    boards: tuple[InventoryBoard, ...]
    left_out: tuple[str, ...]


def platforms_known() -> dict[str, str]:
    """Return the boards of the catalogue by what Zephyr calls them."""
    return {
        library.target: board.name
        for board in catalogue().values()
        if isinstance(board, LibraryBoard)
        for library in board.libraries
        if library.kind is LibraryKind.ZEPHYR
    }


def imported(
    inventory: Sequence[InventoryBoard], mapped: Sequence[MappedBoard], *, place: str, boards: Mapping[str, str]
) -> Imported:
    """Return the inventory with the physical boards of a map: those that it has by their identity are renewed.

    Args:
        inventory: what there is; boards that the map does not have stay.
        mapped: a hardware map.
        place: the rack of boards that are new.
        boards: names in the catalogue by Zephyr's platforms.

    Raises:
        HardwareMapError: a platform is not among `boards`.
    """
    result = {board.identity or f"name {board.name}": board for board in inventory}
    names = {board.name for board in inventory}
    left_out = []
    for lock, entries in by_lock(mapped).items():
        reached = next((entry for entry in entries if entry.connected and entry.available and entry.serial), None)
        if reached is None:
            left_out.append(f"{lock}: no entry of it is connected, available and at a serial device")
            continue
        before = result.get(lock)
        name = before.name if before else _free_name(_catalogued(entries, boards), names)
        names.add(name)
        result[lock] = InventoryBoard(
            name=name,
            board=_catalogued(entries, boards),
            place=before.place if before else place,
            address=reached.serial,
            identity=lock,
            baud=reached.baud,
            twister=_kept(entries, reached),
        )
    return Imported(tuple(result.values()), tuple(left_out))


def exported(inventory: Sequence[InventoryBoard]) -> tuple[tuple[MappedBoard, ...], tuple[str, ...]]:
    """Return a hardware map, and the names of boards that Twister cannot reach: those at no device file."""
    platforms = {board: platform for platform, board in platforms_known().items()}
    mapped, left_out = [], []
    for board in inventory:
        kept = board.twister or TwisterEntry()
        names = kept.platforms or ((platforms[board.board],) if board.board in platforms else ())
        if not board.address.startswith("/") or not names:
            why = "it is at no device file" if names else f"Zephyr has no platform for {board.board}"
            left_out.append(f"{board.name}: {why}")
            continue
        mapped.append(
            MappedBoard(
                lock=board.identity or board.name,
                platforms=names,
                product=kept.product or catalogue()[board.board].title,
                runner=kept.runner or "unknown",
                connected=True,
                serial=board.address,
                baud=board.baud,
                probe_id=kept.probe_id,
                fixtures=kept.fixtures,
            )
        )
    return tuple(mapped), tuple(left_out)


def _catalogued(entries: Sequence[MappedBoard], boards: Mapping[str, str]) -> str:
    platforms = [platform for entry in entries for platform in entry.platforms]
    found = {boards[platform] for platform in platforms if platform in boards}
    if len(found) != 1:
        what = f"several boards, {', '.join(sorted(found))}" if found else "no board of the catalogue"
        raise HardwareMapError(
            f"{entries[0].lock}: {', '.join(platforms)} stands for {what}. Next: name it with --map PLATFORM=BOARD"
        )
    return found.pop()


def _kept(entries: Sequence[MappedBoard], reached: MappedBoard) -> TwisterEntry:
    return TwisterEntry(
        platforms=tuple(dict.fromkeys(platform for entry in entries for platform in entry.platforms)),
        product=reached.product,
        runner=reached.runner,
        probe_id=reached.probe_id,
        fixtures=reached.fixtures,
    )


def _free_name(board: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", board)[:56]
    return next(name for number in range(1, len(taken) + 2) if (name := f"{stem}-{number}") not in taken)
