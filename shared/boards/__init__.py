"""The boards Edgeloop knows, as data: one TOML file a board in `catalogue/`."""

import tomllib
from enum import StrEnum
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field

from shared.events import Slug


class Core(StrEnum):
    """The Cortex-M cores that firmware is compiled for."""

    CORTEX_M0PLUS = "cortex-m0plus"
    CORTEX_M4 = "cortex-m4"
    CORTEX_M7 = "cortex-m7"


class Board(BaseModel):
    """One kind of board. Addresses are the memory map of MCUboot's primary slot and of the RAM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    title: str
    core: Core
    clock_hz: int = Field(gt=0)
    flash_bytes: int = Field(gt=0, description="Size of the primary slot, image header included")
    ram_bytes: int = Field(gt=0)
    stack_bytes: int = Field(gt=0, description="Part of ram_bytes that is kept for the stack")
    slot_address: int = Field(ge=0, description="Where the bootloader finds the image, header included")
    ram_address: int = Field(ge=0)
    qemu_machine: str = Field(description="The machine of qemu-system-arm that stands for the board")
    qemu_cpu: str


class UnknownBoardError(ValueError):
    """A name that is not in the catalogue."""


@cache
def catalogue() -> dict[str, Board]:
    """Return every board by name."""
    files = (
        file for file in resources.files(__package__).joinpath("catalogue").iterdir() if file.name.endswith(".toml")
    )
    boards = (Board.model_validate(tomllib.loads(file.read_text("utf-8"))) for file in files)
    return {board.name: board for board in sorted(boards, key=lambda board: board.name)}


def board_named(name: str) -> Board:
    """Return the board called `name`.

    Raises:
        UnknownBoardError: there is none; the message lists those there are.
    """
    if name not in catalogue():
        raise UnknownBoardError(f"no board is called {name!r}; the catalogue has {', '.join(catalogue())}")
    return catalogue()[name]
