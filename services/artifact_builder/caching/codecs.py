"""Dataclasses as files and back: each field of bytes is a file, everything else one JSON document."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from services.artifact_builder.caching.keys import Files

T = TypeVar("T")

_FACTS: Final = "facts.json"
_INSIDE: Final = "."


def pack(value: Any) -> Files:  # noqa: ANN401 - any dataclass
    """Return a dataclass as files: fields of bytes by their names, ``source.data`` when nested; the others as JSON."""
    files = {_INSIDE.join(path): content for path, content in _bytes_in(value)}
    left_out: dict[str, Any] = {}
    for name in files:
        *outer, last = name.split(_INSIDE)
        place = left_out
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = True
    adapter: TypeAdapter[Any] = TypeAdapter(type(value))
    return {**files, _FACTS: adapter.dump_json(value, exclude=left_out or None)}


def unpack(kind: type[T], files: Files) -> T:
    """Return the dataclass that `pack` was given."""
    fields: Any = json.loads(files[_FACTS])
    for name, content in files.items():
        if name != _FACTS:
            *outer, last = name.split(_INSIDE)
            place = fields
            for part in outer:
                place = place[part]
            place[last] = content
    return TypeAdapter(kind).validate_python(fields)


def _bytes_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bytes]]:  # noqa: ANN401 - as above
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if isinstance(found, bytes):
            yield (*path, field.name), found
        elif dataclasses.is_dataclass(found):
            yield from _bytes_in(found, (*path, field.name))
