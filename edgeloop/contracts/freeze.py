"""The frozen baseline: every schema as it was when a version was released, kept in `proto/frozen.json`.

The baseline holds the schemas themselves and not their digests alone, so that compatibility can be checked in any copy
of the tree, with or without git. The digest beside each one is there to catch an edit by hand.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edgeloop.contracts.compatibility import Readers, incompatibilities
from edgeloop.contracts.schemas import MANIFEST_PATH

FROZEN_PATH: Final = "proto/frozen.json"


class FrozenError(ValueError):
    """`proto/frozen.json` is not what `freeze` wrote."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """The schemas of a released version by their path; none before the first release."""

    version: str | None = None
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def parse(text: str, *, where: str = FROZEN_PATH) -> Frozen:
    """Read the baseline.

    Raises:
        FrozenError: it is not JSON of the right form, or a schema differs from its digest.
    """
    try:
        document = json.loads(text)
        entries = {path: (entry["digest"], entry["schema"]) for path, entry in document["schemas"].items()}
        version = str(document["version"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FrozenError(f"{where}: not a baseline that `freeze` wrote ({error!r}); restore it from git") from error
    for path, (digest, schema) in entries.items():
        if digest_of(schema) != digest:
            raise FrozenError(
                f"{where}: the frozen {path} was edited by hand: its digest is {digest_of(schema)}, "
                f"at the freeze it was {digest}; restore the file from git and add a new major version instead"
            )
    return Frozen(version, {path: schema for path, (_, schema) in entries.items()})


def render(frozen: Frozen) -> str:
    """Return the file's text: one schema a line, so that a diff names what moved."""
    lines = [
        f"    {json.dumps(path)}: {_canonical({'digest': digest_of(schema), 'schema': schema})}"
        for path, schema in sorted(frozen.schemas.items())
    ]
    body = ",\n".join(lines)
    return f'{{\n  "version": {json.dumps(frozen.version)},\n  "schemas": {{\n{body}\n  }}\n}}\n'


def violations(frozen: Frozen, current: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return every way in which `current` breaks what was frozen."""
    found: list[str] = []
    for path, old in sorted(frozen.schemas.items()):
        if path not in current:
            found.append(
                f"{path}: frozen by {frozen.version} and gone; keep it, and add the next major version beside it"
            )
        elif "messages" in old:
            found += [f"{path}: {reason}" for reason in wire_incompatibilities(old, current[path])]
        else:
            readers = Readers.NEW if path == MANIFEST_PATH else Readers.OLD_AND_NEW
            found += [f"{path}: {reason}" for reason in incompatibilities(old, current[path], readers=readers)]
    return found


def wire_incompatibilities(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compare two descriptions of protobuf messages: a field number keeps its name and type for ever."""
    found: list[str] = []
    for message, fields in old["messages"].items():
        now = new["messages"].get(message)
        if now is None:
            found.append(f"message {message} is gone")
            continue
        for number, was in fields.items():
            if number not in now:
                found.append(f"{message}: field {number} ({was}) was removed")
            elif now[number] != was:
                found.append(f"{message}: field {number} was {was!r} and is {now[number]!r}")
    return found


def digest_of(schema: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the schema's canonical JSON."""
    return f"sha256:{hashlib.sha256(_canonical(schema).encode()).hexdigest()}"


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
