"""Keys of stages, and what a cache of their outputs is."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from pydantic import BaseModel

Files: TypeAlias = Mapping[str, bytes]
"""What a stage gave: bytes by name."""

NOT_IN_KEY: Final = MappingProxyType({"in_key": False})
"""Metadata of a dataclass field that cannot change what a stage gives: a time limit, or where a folder lies."""


class StageCache(Protocol):
    """Remembers what stages gave. An answer is what was put, whole, or none at all."""

    async def get(self, key: str) -> Files | None:
        """Return what was put under `key`; None when it is unknown, gone or damaged, and then the stage runs."""

    async def put(self, key: str, files: Files, *, stage: str, project: str) -> None:
        """Remember `files`; doing it twice is doing it once. `stage` and `project` are for people."""


def key_of(*parts: object) -> str:
    """Return the SHA-256, in hex, of everything that a stage depends on.

    Raises:
        TypeError: a part has no form that is the same in every process.
    """
    return hashlib.sha256(json.dumps(_plain(parts), sort_keys=True, allow_nan=False).encode()).hexdigest()


def _plain(value: object) -> Any:  # noqa: ANN401 - what JSON holds
    """Return `value` as JSON, with bytes as their digests. Types are named, so that equal forms of two differ."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, BaseModel):
        return {"type": type(value).__name__, "value": value.model_dump(mode="json")}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.metadata.get("in_key", True)
        }
        return {"type": type(value).__name__, "value": fields}
    if isinstance(value, Mapping):
        return {"mapping": sorted([str(name), _plain(item)] for name, item in value.items())}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of a stage's key; use numbers, text, bytes or dataclasses")
