"""`gateway.yaml`: which boards this gateway looks after, and how it reaches them."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from device_gateway.drivers import AddressError, drivers
from shared.boards import ImageBoard, NoImageError, catalogue, image_board, image_boards
from shared.events import Slug
from shared.lab.inventory import LABGRID, InventoryBoard, InventoryError, read_located
from shared.mlperf_tiny.serial_line import BAUD
from shared.places.flashing import IMAGE
from shared.places.identity import is_serial_number
from shared.yaml_text import YamlTextError, load_yaml


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where, what was found and what is allowed."""


class DeviceEntry(BaseModel):
    """One board."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug = Field(description="The device's name on the bus")
    board: Slug = Field(description="Name in the board catalogue")
    driver: str = Field(description="How to speak to it")
    address: str = Field(description="Where it is, in the driver's form")


class LabBoardEntry(BaseModel):
    """One board of the device lab, which jobs and people borrow. It is none of the fleet: nobody updates it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug = Field(description="The board's name in the lab")
    board: Slug = Field(description="Name in the board catalogue")
    port: str = Field(
        min_length=1, description="/dev/serial/by-id/…, socket://host:port, rfc2217://host:port or labgrid:PLACE"
    )
    baud: int = Field(default=BAUD, gt=0)
    identity: str = Field(
        default="", description="The only board that may hang there, as `edgeloop lab boards` shows it"
    )
    flash: tuple[str, ...] = Field(
        default=(), description="Program and arguments that write {image} to the board at {port}"
    )


class LabSection(BaseModel):
    """The gateway's boards that belong to the device lab."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: Slug | None = Field(default=None, description="The place's name in the lab; none: the gateway's")
    inventory: Path | None = Field(
        default=None,
        description="As `edgeloop lab import` writes it, from this file's folder: its boards of this place",
    )
    boards: tuple[LabBoardEntry, ...] = Field(default=(), description="Boards beside the inventory's")


class GatewayConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway: Slug = Field(description="This gateway's name: its commands are addressed to it")
    project: Slug
    devices: tuple[DeviceEntry, ...] = Field(default=(), description="Boards of the fleet, which it updates")
    lab: LabSection | None = None


def read_config(path: Path) -> GatewayConfig:
    """Read and check the file, addresses included. The lab's boards are those of its inventory, too.

    Raises:
        ConfigError: it, or the inventory, cannot be read, or something in it is not allowed.
    """
    try:
        document = load_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; set EDGELOOP_GATEWAY_CONFIG to a readable file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: found bytes that are no UTF-8 text. Next: write it anew as UTF-8") from error
    except YamlTextError as error:
        raise ConfigError(f"{error.at(str(path))}: not YAML: {error.problem}. Next: correct it there") from error
    try:
        config = GatewayConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(path, document, problem) for problem in error.errors())) from error

    def refuse(where: tuple[str | int, ...], reason: str) -> ConfigError:
        return ConfigError(f"{path}:{_line(document, where)}: {_dotted(where)}: {reason}")

    if not config.devices and config.lab is None:
        raise refuse(("devices",), "no board to look after; list the fleet's here, or the lab's in lab")
    _check_devices(config.devices, lambda index, key, reason: refuse(("devices", index, key), reason))
    if config.lab is None:
        return config
    boards: list[tuple[LabBoardEntry, _RefuseKey]] = [
        (entry, partial(lambda index, key, reason: refuse(("lab", "boards", index, key), reason), index))
        for index, entry in enumerate(config.lab.boards)
    ]
    if config.lab.inventory is not None:
        place = config.lab.place or config.gateway
        boards += _inventory(path.parent / config.lab.inventory, place, partial(refuse, ("lab", "inventory")))
    if not boards:
        raise refuse(("lab", "boards"), "no board to lend; list them here, or name a file of them in lab.inventory")
    _check_lab(boards)
    lab = config.lab.model_copy(update={"boards": tuple(entry for entry, _ in boards)})
    return config.model_copy(update={"lab": lab})


_RefuseKey = Callable[[str, str], ConfigError]
"""From an entry's key and a reason."""
_Refuse = Callable[[int, str, str], ConfigError]
"""From the entry's number, its key and a reason."""


def _check_devices(devices: Sequence[DeviceEntry], refuse_at: _Refuse) -> None:
    """Check what the types cannot: boards, drivers, addresses, and that nothing is named twice."""
    ids = Counter(entry.id for entry in devices)
    addresses = Counter(entry.address for entry in devices)
    for index, entry in enumerate(devices):
        refuse = partial(refuse_at, index)
        if ids[entry.id] > 1:
            raise refuse("id", f"{entry.id!r} stands {ids[entry.id]} times; every device needs a name of its own")
        board = _board(entry.board, refuse)
        if entry.driver not in drivers():
            raise refuse("driver", f"found {entry.driver!r}; allowed are {', '.join(drivers())}")
        if addresses[entry.address] > 1:
            raise refuse("address", f"{entry.address} stands {addresses[entry.address]} times; a board has one name")
        try:
            drivers()[entry.driver](entry.address, board)
        except AddressError as error:
            raise refuse("address", str(error)) from error


def _inventory(file: Path, place: str, refuse: Callable[[str], ConfigError]) -> list[tuple[LabBoardEntry, _RefuseKey]]:
    """Return an inventory's boards of a place."""
    try:
        located = read_located(file.read_text("utf-8"), str(file))
    except OSError as error:
        raise refuse(f"{file}: {error.strerror}. Next: write it with `edgeloop lab import`") from error
    except UnicodeDecodeError as error:
        raise refuse(
            f"{file}: found bytes that are no UTF-8 text. Next: write it with `edgeloop lab import`"
        ) from error
    except InventoryError as error:
        raise ConfigError(str(error)) from error
    found = [_lent(board, where) for where, board in located if board.place == place]
    if not found:
        places = ", ".join(sorted({board.place for _, board in located})) or "none"
        raise refuse(f"{file} has no board at {place!r}; its places are {places}. Next: set lab.place, or the boards'")
    return found


def _lent(board: InventoryBoard, where: str) -> tuple[LabBoardEntry, _RefuseKey]:
    def refuse(key: str, reason: str) -> ConfigError:
        return ConfigError(f"{where}: {'address' if key == 'port' else key}: {reason}")

    remote = "://" in board.address or board.address.startswith(LABGRID)
    if remote and is_serial_number(board.identity):
        raise refuse(
            "identity",
            f"found {board.identity!r}, a serial number, which {board.address} cannot tell. Next: write what the"
            " firmware there says, such as dut:edgeloop, or leave it out",
        )
    entry = LabBoardEntry(
        name=board.name, board=board.board, port=board.address, baud=board.baud, identity=board.identity
    )
    return entry, refuse


def _check_lab(boards: Sequence[tuple[LabBoardEntry, _RefuseKey]]) -> None:
    """Check the same of the lab's boards. Two on one port would take each other's bytes."""
    names, ports = Counter(entry.name for entry, _ in boards), Counter(entry.port for entry, _ in boards)
    for entry, refuse in boards:
        if names[entry.name] > 1:
            raise refuse("name", f"{entry.name!r} stands {names[entry.name]} times; every board has its own name")
        _board(entry.board, refuse)
        if ports[entry.port] > 1:
            raise refuse("port", f"{entry.port} stands {ports[entry.port]} times; a port has one board")
        if entry.flash and not any(IMAGE in word for word in entry.flash):
            raise refuse("flash", f"found {' '.join(entry.flash)!r}; write {IMAGE} where the program wants the image")


def _board(name: str, refuse: Callable[[str, str], ConfigError]) -> ImageBoard:
    if name not in catalogue():
        raise refuse("board", f"found {name!r}; allowed are {', '.join(image_boards())}")
    try:
        return image_board(name)
    except NoImageError as error:
        raise refuse("board", str(error)) from error


def _problem(path: Path, document: Any, problem: Any) -> str:  # noqa: ANN401 - pydantic's and ruamel's structures
    where = problem["loc"]
    found = "" if problem["type"] == "missing" else f"found {problem['input']!r}; "
    allowed = ""
    if problem["type"] in {"extra_forbidden", "missing"}:
        model = _model_at(where)
        allowed = f"; the keys are {', '.join(model.model_fields)}"
    return f"{path}:{_line(document, where)}: {_dotted(where)}: {found}{problem['msg']}{allowed}"


def _model_at(where: tuple[str | int, ...]) -> type[BaseModel]:
    """Return whose keys stand there."""
    match where[:-1]:
        case ("devices", *_):
            return DeviceEntry
        case ("lab", "boards", *_):
            return LabBoardEntry
        case ("lab",):
            return LabSection
    return GatewayConfig


def _dotted(where: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".") or "the file"


def _line(document: Any, where: tuple[str | int, ...]) -> int:  # noqa: ANN401 - ruamel's nodes
    """Return the line of the deepest part of `where` that is in the document, counted from 1."""
    line = 1
    for part in where:
        try:
            if isinstance(document, CommentedMap):
                line = document.lc.key(part)[0] + 1
            elif isinstance(document, CommentedSeq):
                line = document.lc.item(part)[0] + 1
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return line
