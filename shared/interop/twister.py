"""Zephyr Twister's hardware maps, in and out.

A map is a YAML list. Entries with the same `id` are one physical board, offered under several platforms or to several
runners: they lock together. Keys that we do not know are kept, and so are comments and order.
Source: Zephyr, doc/develop/test/twister.rst and scripts/schemas/twister/hwmap-schema.yaml.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from shared.yaml_text import YamlTextError, load_yaml

MAXIMUM_BYTES: Final = 1024 * 1024


class HardwareMapError(ValueError):
    """A map that Twister would refuse; the message names line, entry, key, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class MappedBoard:
    """One entry of a map.

    Attributes:
        lock: Of the physical board: equal for all entries that must not be used at the same time.
        platforms: Zephyr platforms; Twister allows several in one entry.
        serial: Device path of the console; empty where `serial_pty` names a command instead, or nothing is connected.
        raw: The whole entry as it was read, with the keys that this type does not name.
    """

    lock: str
    platforms: tuple[str, ...]
    product: str
    runner: str
    connected: bool
    available: bool = True
    serial: str = ""
    serial_pty: str = ""
    baud: int = 115200
    probe_id: str = ""
    fixtures: tuple[str, ...] = ()
    notes: str = ""
    raw: Mapping[str, Any] | None = None

    @property
    def usable(self) -> bool:
        """Whether a job can run on it now."""
        return self.connected and self.available and bool(self.serial or self.serial_pty)


def read_map(text: str, file: str = "hardware map") -> tuple[MappedBoard, ...]:
    """Parse a hardware map.

    Raises:
        HardwareMapError: it is no list of entries, a key is missing, or a value has another type.
    """
    if len(text.encode()) > MAXIMUM_BYTES:
        raise HardwareMapError(f"{file}: more than {MAXIMUM_BYTES:,} bytes; allowed is one list of boards")
    try:
        entries = load_yaml(text, _yaml())
    except YamlTextError as error:
        raise HardwareMapError(f"{error.at(file)}: no YAML: {error.problem}. Next: correct it there") from error
    if entries is None:
        return ()
    if not isinstance(entries, CommentedSeq):
        raise HardwareMapError(f"{file}: found a {type(entries).__name__}; allowed is a list of boards, each `- id: …`")
    return tuple(_board(entry, file, entries.lc.item(index)[0] + 1) for index, entry in enumerate(entries))


def write_map(boards: Iterable[MappedBoard]) -> str:
    """Return the boards as a map that `read_map` and Twister read. Keys that were read and not understood stay."""
    out = StringIO()
    _yaml().dump([_entry(board) for board in boards], out)
    return out.getvalue()


def by_lock(boards: Sequence[MappedBoard]) -> dict[str, tuple[MappedBoard, ...]]:
    """Group entries by the physical board that they share."""
    found: dict[str, list[MappedBoard]] = {}
    for board in boards:
        found.setdefault(board.lock, []).append(board)
    return {lock: tuple(group) for lock, group in found.items()}


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096  # a folded runner parameter would still be YAML, but no longer easy to compare
    return yaml


_KEYS: Final[Mapping[str, tuple[type, bool]]] = {
    # Key: its type, and whether Twister's schema requires it.
    "id": (str, True),
    "product": (str, True),
    "runner": (str, True),
    "connected": (bool, True),
    "platform": (object, True),
    "available": (bool, False),
    "serial": (str, False),
    "serial_pty": (str, False),
    "baud": (int, False),
    "probe_id": (str, False),
    "notes": (str, False),
    "fixtures": (list, False),
}
_NAMES: Final = {str: "a text", bool: "true or false", int: "a whole number", list: "a list", object: "a platform"}


def _board(entry: object, file: str, line: int) -> MappedBoard:
    if not isinstance(entry, CommentedMap):
        raise HardwareMapError(f"{file}:{line}: found {entry!r}; allowed is a board with keys such as `id: …`")
    for key, (kind, required) in _KEYS.items():
        value = entry.get(key)
        if value is None:
            if required:
                raise HardwareMapError(f"{file}:{line}: a board without `{key}`; give {_NAMES[kind]}")
        elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            at = entry.lc.value(key)[0] + 1
            hint = f"; write it in quotes: {key}: '{value}'" if kind is str else ""
            raise HardwareMapError(f"{file}:{at}: {key}: found {value!r}; allowed is {_NAMES[kind]}{hint}")
    return MappedBoard(
        lock=str(entry["id"]),
        platforms=_texts(entry["platform"], "platform", file, line),
        product=str(entry["product"]),
        runner=str(entry["runner"]),
        connected=entry["connected"],
        available=entry.get("available", True) is not False,
        serial=str(entry.get("serial") or ""),
        serial_pty=str(entry.get("serial_pty") or ""),
        baud=int(entry.get("baud") or 115200),
        probe_id=str(entry.get("probe_id") or ""),
        fixtures=_texts(entry.get("fixtures") or [], "fixtures", file, line),
        notes=str(entry.get("notes") or ""),
        raw=entry,
    )


def _texts(value: object, key: str, file: str, line: int) -> tuple[str, ...]:
    """Return one text, texts separated by spaces, or a list of them, as a tuple."""
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(str(item) for item in value)
    raise HardwareMapError(f"{file}:{line}: {key}: found {value!r}; allowed is a text or a list of texts")


def _entry(board: MappedBoard) -> CommentedMap:
    entry = CommentedMap() if board.raw is None else board.raw.copy()  # type: ignore[attr-defined]
    known = _known(board)
    if board.raw is not None:
        # Only what was changed is written, so that an untouched entry stays as its author wrote it.
        before = _known(_board(board.raw, "hardware map", 1))
        known = {key: value for key, value in known.items() if before[key] != value}
    for key, value in known.items():
        if value or key in {"connected", "available", "id", "product", "runner", "platform"}:
            entry[key] = value
        else:
            entry.pop(key, None)
    return entry


def _known(board: MappedBoard) -> dict[str, Any]:
    platforms = board.platforms[0] if len(board.platforms) == 1 else list(board.platforms)
    return {
        "connected": board.connected,
        "available": board.available,
        "id": board.lock,
        "platform": platforms,
        "product": board.product,
        "runner": board.runner,
        "serial": board.serial,
        "serial_pty": board.serial_pty,
        "baud": board.baud,
        "probe_id": board.probe_id,
        "fixtures": list(board.fixtures),
        "notes": board.notes,
    }
