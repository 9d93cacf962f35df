"""`gateway.yaml`: which boards this gateway looks after, and how it reaches them."""

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from device_gateway.drivers import AddressError, drivers
from shared.boards import NoImageError, catalogue, image_board, image_boards
from shared.events import Slug


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where, what was found and what is allowed."""


class DeviceEntry(BaseModel):
    """One board."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug = Field(description="The device's name on the bus")
    board: Slug = Field(description="Name in the board catalogue")
    driver: str = Field(description="How to speak to it")
    address: str = Field(description="Where it is, in the driver's form")


class GatewayConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway: Slug = Field(description="This gateway's name: its commands are addressed to it")
    project: Slug
    devices: tuple[DeviceEntry, ...] = Field(min_length=1)


def read_config(path: Path) -> GatewayConfig:
    """Read and check the file, addresses included.

    Raises:
        ConfigError: it cannot be read, or something in it is not allowed.
    """
    try:
        document = YAML(typ="rt").load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; set EDGELOOP_GATEWAY_CONFIG to a readable file") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        config = GatewayConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(path, document, problem) for problem in error.errors())) from error
    _check_devices(path, document, config)
    return config


def _check_devices(path: Path, document: Any, config: GatewayConfig) -> None:  # noqa: ANN401 - ruamel's nodes
    """Check what the types cannot: boards, drivers, addresses, and that nothing is named twice."""
    ids = Counter(entry.id for entry in config.devices)
    addresses = Counter(entry.address for entry in config.devices)
    for index, entry in enumerate(config.devices):

        def refuse(key: str, reason: str, index: int = index) -> ConfigError:
            where = ("devices", index, key)
            return ConfigError(f"{path}:{_line(document, where)}: {_dotted(where)}: {reason}")

        if ids[entry.id] > 1:
            raise refuse("id", f"{entry.id!r} stands {ids[entry.id]} times; every device needs a name of its own")
        if entry.board not in catalogue():
            raise refuse("board", f"found {entry.board!r}; allowed are {', '.join(image_boards())}")
        try:
            board = image_board(entry.board)
        except NoImageError as error:
            raise refuse("board", str(error)) from error
        if entry.driver not in drivers():
            raise refuse("driver", f"found {entry.driver!r}; allowed are {', '.join(drivers())}")
        if addresses[entry.address] > 1:
            raise refuse("address", f"{entry.address} stands {addresses[entry.address]} times; a board has one name")
        try:
            drivers()[entry.driver](entry.address, board)
        except AddressError as error:
            raise refuse("address", str(error)) from error


def _problem(path: Path, document: Any, problem: Any) -> str:  # noqa: ANN401 - pydantic's and ruamel's structures
    where = problem["loc"]
    found = "" if problem["type"] == "missing" else f"found {problem['input']!r}; "
    allowed = ""
    if problem["type"] in {"extra_forbidden", "missing"}:
        model = DeviceEntry if where[0] == "devices" and len(where) > 1 else GatewayConfig
        allowed = f"; the keys are {', '.join(model.model_fields)}"
    return f"{path}:{_line(document, where)}: {_dotted(where)}: {found}{problem['msg']}{allowed}"


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
