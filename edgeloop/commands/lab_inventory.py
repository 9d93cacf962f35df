"""``edgeloop lab import|export``: the file of a lab's boards, from and to other tools."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.options import JsonOption
from edgeloop.terminal import Terminal
from edgeloop.writing import require_writable

InventoryOption = Annotated[
    Path, typer.Option("--inventory", help="The lab's boards, YAML.", dir_okay=False, envvar="EDGELOOP_LAB_INVENTORY")
]
DEFAULT_INVENTORY = Path("lab.yaml")


def import_(
    *,
    inventory: InventoryOption = DEFAULT_INVENTORY,
    twister: Annotated[
        Path | None, typer.Option("--twister", help="A hardware map of Zephyr's Twister.", exists=True, dir_okay=False)
    ] = None,
    labgrid: Annotated[
        list[str] | None,
        typer.Option("--labgrid", metavar="PLACE=BOARD", help="A labgrid place, and what it has; may be repeated."),
    ] = None,
    place: Annotated[str, typer.Option("--place", help="The rack of boards that are new.")] = "rack",
    platform: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="PLATFORM=BOARD", help="What a platform of Zephyr is; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add the boards of a hardware map, and labgrid places, to the inventory; boards that it knows are renewed."""
    from edgeloop.lab import inventories  # noqa: PLC0415 - ruamel.yaml: only these commands need it

    terminal = Terminal(as_json)
    if twister is None and not labgrid:
        raise UsageError("nothing to import", next_step="give --twister FILE or --labgrid PLACE=BOARD")
    found = inventories.read(inventory)
    if twister is not None:
        found, left_out = inventories.with_map(found, twister, place=place, platforms=platform or ())
        for why in left_out:
            terminal.note(f"left out: {why}")
    found = inventories.with_labgrid(found, labgrid or (), place=place)
    require_writable("--inventory", inventory)
    inventories.write(found, inventory)
    table = Table("name", "board", "place", "address", "identity", box=None)
    for board in found:
        table.add_row(*map(Text, (board.name, board.board, board.place, board.address, board.identity)))
    terminal.result([board.model_dump(mode="json") for board in found], table)


def export(
    *,
    inventory: InventoryOption = DEFAULT_INVENTORY,
    twister: Annotated[Path, typer.Option("--twister", help="The hardware map to write.", dir_okay=False)],
    as_json: JsonOption = False,
) -> None:
    """Write the inventory's boards at device files as a hardware map for Zephyr's Twister."""
    from edgeloop.lab import inventories  # noqa: PLC0415 - as above

    terminal = Terminal(as_json)
    if not inventory.is_file():
        raise UsageError(f"--inventory {inventory}: no such file", next_step="write one with `edgeloop lab import`")
    found = inventories.read(inventory)
    require_writable("--twister", twister)
    written, left_out = inventories.write_map(found, twister)
    for why in left_out:
        terminal.note(f"left out: {why}")
    terminal.result({"out": str(twister), "boards": written}, Text(f"{written} boards in {twister}"))
