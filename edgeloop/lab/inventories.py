"""Inventory files as commands read and write them: errors are bad input, with the file and the line."""

from collections.abc import Sequence
from pathlib import Path

from edgeloop.errors import UsageError
from shared.interop import twister
from shared.interop.twister_inventory import exported, imported, platforms_known
from shared.lab.inventory import LABGRID, InventoryBoard, InventoryError, read_inventory, write_inventory


def read(file: Path) -> tuple[InventoryBoard, ...]:
    """Return the boards of a file; none where there is no file yet.

    Raises:
        UsageError: it is none.
    """
    if not file.exists():
        return ()
    try:
        return read_inventory(_text(file), str(file))
    except InventoryError as error:
        raise _explained(error) from error


def write(boards: Sequence[InventoryBoard], file: Path) -> None:
    """Write boards, after it is sure that they will be read again.

    Raises:
        UsageError: two of them have the same name, address or identity.
    """
    text = write_inventory(boards)
    try:
        read_inventory(text, str(file))
    except InventoryError as error:
        raise _explained(error) from error
    file.write_text(text, "utf-8")


def with_map(
    inventory: Sequence[InventoryBoard], file: Path, *, place: str, platforms: Sequence[str]
) -> tuple[tuple[InventoryBoard, ...], tuple[str, ...]]:
    """Return the inventory with a hardware map's boards, and why some are not in it.

    Raises:
        UsageError: the map is none, or one of its platforms stands for no board.
    """
    named = dict(_pair("--map", option) for option in platforms)
    try:
        mapped = twister.read_map(_text(file), str(file))
        found = imported(inventory, mapped, place=place, boards=platforms_known() | named)
    except (twister.HardwareMapError, ValueError) as error:
        raise _explained(error) from error
    return found.boards, found.left_out


def with_labgrid(
    inventory: Sequence[InventoryBoard], places: Sequence[str], *, place: str
) -> tuple[InventoryBoard, ...]:
    """Return the inventory with labgrid places, each named after itself.

    Raises:
        UsageError: one is not ``PLACE=BOARD``, or its name is none of a board of ours.
    """
    boards = {board.address: board for board in inventory}
    for name, board in (_pair("--labgrid", option) for option in places):
        address = f"{LABGRID}{name}"
        if address in boards:
            boards[address] = boards[address].model_copy(update={"board": board})
            continue
        try:
            boards[address] = InventoryBoard(name=name, board=board, place=place, address=address)
        except ValueError as error:
            raise UsageError(
                f"--labgrid {name}={board}: allowed are small letters, digits and -",
                next_step="give the place such a name, or add it to the inventory by hand",
            ) from error
    return tuple(boards.values())


def write_map(inventory: Sequence[InventoryBoard], file: Path) -> tuple[int, tuple[str, ...]]:
    """Write a hardware map; return how many boards it has, and why the others are not in it."""
    mapped, left_out = exported(inventory)
    file.write_text(twister.write_map(mapped), "utf-8")
    return len(mapped), left_out


def _pair(option: str, text: str) -> tuple[str, str]:
    left, _, right = text.partition("=")
    if not left or not right:
        raise UsageError(f"{option} {text!r}; allowed are two names with = between them")
    return left, right


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read as UTF-8 text: {error}") from error


def _explained(error: Exception) -> UsageError:
    message, _, next_step = str(error).partition(". Next: ")
    return UsageError(message, next_step=next_step)
