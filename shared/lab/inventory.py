"""The boards of a lab as a file that people write: what each is, at which place it hangs, how it is reached.

YAML: ``boards:``, a list of mappings whose keys are those of `InventoryBoard`.
"""

from collections.abc import Iterable
from io import StringIO
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from shared.boards import catalogue
from shared.events import Slug
from shared.yaml_text import YamlTextError, load_yaml

LABGRID: Final = "labgrid:"
"""An address that begins so names a labgrid place, borrowed while the board is held."""
MAXIMUM_BYTES: Final = 1024 * 1024
_EXAMPLE: Final = "{name: nano-1, board: arduino-nano-33-ble-sense, place: rack-1, address: /dev/ttyACM0}"


class InventoryError(ValueError):
    """An inventory that cannot be used. The message names file, line, what was found and what is allowed."""


class TwisterEntry(BaseModel):
    """What a hardware map of Twister says beyond this file's own keys; it is given back as it came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platforms: tuple[str, ...] = ()
    product: str = ""
    runner: str = ""
    probe_id: str = ""
    fixtures: tuple[str, ...] = ()


class InventoryBoard(BaseModel):
    """One physical board.

    Attributes:
        board: Name in the board catalogue.
        place: The rack that it hangs at.
        address: What pyserial opens, or ``labgrid:PLACE``.
        identity: What the hardware itself says, checked before any flash; empty: nothing is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    board: Slug
    place: Slug
    address: str = Field(min_length=1)
    identity: str = ""
    baud: int = Field(default=115_200, ge=300)
    twister: TwisterEntry | None = None


def read_inventory(text: str, file: str = "inventory") -> tuple[InventoryBoard, ...]:
    """Parse an inventory.

    Raises:
        InventoryError: it is no such file, or has a name, an address or an identity twice.
    """
    return tuple(board for _, board in read_located(text, file))


def read_located(text: str, file: str) -> tuple[tuple[str, InventoryBoard], ...]:
    """Parse an inventory; each board comes with ``file:line``, for whoever cannot use it.

    Raises:
        InventoryError: as `read_inventory`.
    """
    if len(text.encode()) > MAXIMUM_BYTES:
        raise InventoryError(f"{file}: more than {MAXIMUM_BYTES:,} bytes; allowed is one list of boards")
    try:
        found = load_yaml(text, _yaml())
    except YamlTextError as error:
        raise InventoryError(f"{error.at(file)}: no YAML: {error.problem}. Next: correct it there") from error
    if found is None:
        return ()
    entries = found.get("boards") if isinstance(found, CommentedMap) else None
    if not isinstance(entries, CommentedSeq) or set(found) != {"boards"}:
        raise InventoryError(f"{file}: allowed is one key, `boards`, with a list. Next: write `boards: [{_EXAMPLE}]`")
    places = [f"{file}:{entries.lc.item(index)[0] + 1}" for index in range(len(entries))]
    located = [(where, _board(entry, where)) for where, entry in zip(places, entries, strict=True)]
    _require_unique(located)
    return tuple(located)


def write_inventory(boards: Iterable[InventoryBoard]) -> str:
    """Return the file. Keys that have their default are left out."""
    out = StringIO()
    _yaml().dump({"boards": [board.model_dump(mode="json", exclude_defaults=True) for board in boards]}, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.width = 4096
    return yaml


def _board(entry: object, where: str) -> InventoryBoard:
    if not isinstance(entry, CommentedMap):
        raise InventoryError(f"{where}: found {entry!r}; allowed is a board. Next: write it like `{_EXAMPLE}`")
    try:
        board = InventoryBoard.model_validate(_plain(entry))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InventoryError(
            f"{where}: {key}: found {first['input']!r}: {first['msg']}. Next: write it like `{_EXAMPLE}`"
        ) from error
    if board.board not in catalogue():
        raise InventoryError(f"{where}: board: found {board.board!r}; the catalogue has {', '.join(catalogue())}")
    return board


def _plain(value: Any) -> Any:  # noqa: ANN401 - any YAML
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _require_unique(located: Iterable[tuple[str, InventoryBoard]]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for where, board in located:
        for key in ("name", "address", "identity"):
            value = getattr(board, key)
            if value and (key, value) in seen:
                raise InventoryError(
                    f"{where}: {key} {value!r} stands for {seen[key, value]} and for {board.name}; allowed is one board"
                )
            seen[key, value] = board.name
