"""A fleet of virtual boards, and the configurations of the two processes that make it one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeloop.errors import InfrastructureError
from edgeloop.layout import Layout

GATEWAY_ID: Final = "local"
_KINDS: Final = ("cortex-m0plus", "cortex-m4", "cortex-m7")
"""The boards that the example is built for."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Virtual boards that play the recordings of `world` for a project."""

    boards: int
    project: str
    world: Path


def devices_of(fleet: Fleet) -> list[dict[str, str]]:
    """Return id and kind of each board: the kinds in turn."""
    return [{"id": f"board-{index + 1:02}", "board": _KINDS[index % len(_KINDS)]} for index in range(fleet.boards)]


def virtual_yaml(fleet: Fleet, layout: Layout, *, state_file: Path, http_port: int) -> str:
    """Return the configuration of the process that hosts the boards."""
    head: dict[str, str | int] = {
        "project": fleet.project,
        "world": str(fleet.world.absolute()),
        "flash": str(layout.virtual),
        "state": str(state_file),
        "verify_key": str(layout.verify_key),
        "http_port": http_port,
    }
    return _yaml(head, "boards", devices_of(fleet))


def gateway_yaml(fleet: Fleet, listening: object) -> str:
    """Return the configuration of the gateway in front of them.

    Args:
        fleet: for the project.
        listening: the host's answer to ``GET /boards``.

    Raises:
        InfrastructureError: the host said something else.
    """
    try:
        devices = [
            {key: str(board[key]) for key in ("id", "board", "driver", "address")}
            for board in listening  # type: ignore[attr-defined]  # whatever JSON it is: wrong shapes raise below
        ]
    except (TypeError, KeyError) as error:
        raise InfrastructureError(f"the virtual boards' host listed its boards as {listening!r}") from error
    return _yaml({"gateway": GATEWAY_ID, "project": fleet.project}, "devices", devices)


def _yaml(head: Mapping[str, str | int], name: str, entries: Sequence[Mapping[str, str]]) -> str:
    """Return YAML of scalars and one list; a JSON scalar is a YAML scalar."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    lines.append(f"{name}:")
    for entry in entries:
        pairs = ", ".join(f"{key}: {json.dumps(value)}" for key, value in entry.items())
        lines.append(f"  - {{{pairs}}}")
    return "\n".join(lines) + "\n"
