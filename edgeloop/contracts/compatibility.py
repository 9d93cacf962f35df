"""Whether two versions of a JSON Schema may both be called v1.

The question is asked the way a deployment asks it: one side writes, the other reads, and during a rolling update
either may be the older one. A reader ignores fields that it does not know, so an optional addition is safe both ways;
hardly anything else is. Keywords that this module does not know count as incompatible when they differ: a rule that
guesses would be worse than one that asks for a major version too often.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_ANNOTATIONS: Final = frozenset(
    {"$comment", "$defs", "$id", "$schema", "default", "deprecated", "description", "examples", "title"}
)
_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_STRUCTURE: Final = frozenset(
    {"$ref", "anyOf", "oneOf", "type", "const", "enum", "properties", "required", "additionalProperties"}
    | {"patternProperties", "items", "prefixItems"}
)
_KNOWN: Final = _ANNOTATIONS | _STRUCTURE | frozenset(_LOWER_BOUNDS) | frozenset(_UPPER_BOUNDS)


class Readers(StrEnum):
    """Who reads what the schema describes."""

    OLD_AND_NEW = "old-and-new"
    """Messages: services of both versions run at the same time."""
    NEW = "new"
    """Files that people write: the installed version reads them, an older one never does."""


@dataclass(frozen=True, slots=True)
class _Side:
    """A schema with the document that its references point into."""

    node: Schema
    root: Schema

    def at(self, node: object) -> "_Side":
        """Return `node` with its reference resolved; `true` and a missing schema accept everything."""
        resolved: Any = node if isinstance(node, Mapping) else {}
        while "$ref" in resolved:
            target: Any = self.root
            for part in str(resolved["$ref"]).removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            # Keywords beside a reference apply too (draft 2020-12).
            resolved = {**target, **{key: value for key, value in resolved.items() if key != "$ref"}}
        return _Side(resolved, self.root)

    def alternatives(self) -> list["_Side"]:
        """Return what `anyOf`, `oneOf` and a list of types allow, one by one."""
        for keyword in ("anyOf", "oneOf"):
            if keyword in self.node:
                beside = {key: value for key, value in self.node.items() if key not in {keyword, *_ANNOTATIONS}}
                branches = [self.at(branch) for branch in self.node[keyword]]
                return [
                    inner for branch in branches for inner in _Side({**beside, **branch.node}, self.root).alternatives()
                ]
        if isinstance(self.node.get("type"), list):
            return [_Side({**self.node, "type": name}, self.root) for name in self.node["type"]]
        return [self]


def incompatibilities(old: Schema, new: Schema, *, readers: Readers = Readers.OLD_AND_NEW) -> list[str]:
    """Return why `new` cannot replace `old` inside one major version, each with its JSON path; empty when it can."""
    before, after = _Side(old, old).at(old), _Side(new, new).at(new)
    found = [f"{path}: was removed or renamed" for path in _removed(before, after, "$", frozenset())]
    found += [f"{reason} (new code, old data)" for reason in _refusals(before, after, "$", frozenset())]
    if readers is Readers.OLD_AND_NEW:
        found += [f"{reason} (old code, new data)" for reason in _refusals(after, before, "$", frozenset())]
    return list(dict.fromkeys(found))


def _removed(old: _Side, new: _Side, path: str, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths of properties that only `old` has: a reader would not notice, a person would."""
    pair = _pair(old, new)
    if pair in seen:
        return
    seen |= {pair}
    known, inside = _children(new), {"[*]", ".*"}
    for step, nodes in _children(old).items():
        if step not in known and step not in inside:
            yield path + step
        for node in nodes:
            for candidate in known.get(step, ()):
                yield from _removed(node, candidate, path + step, seen)


def _children(side: _Side) -> dict[str, list[_Side]]:
    """Return what is below a node, in all its alternatives, by the step that leads there."""
    found: dict[str, list[_Side]] = {}
    for branch in side.alternatives():
        for name, node in branch.node.get("properties", {}).items():
            found.setdefault(f".{name}", []).append(branch.at(node))
        for pattern, node in branch.node.get("patternProperties", {}).items():
            found.setdefault(f".<{pattern}>", []).append(branch.at(node))
        for keyword, step in (("items", "[*]"), ("additionalProperties", ".*")):
            if isinstance(branch.node.get(keyword), Mapping):
                found.setdefault(step, []).append(branch.at(branch.node[keyword]))
    return found


def _refusals(writer: _Side, reader: _Side, path: str, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Yield where `reader` refuses something that `writer` may say."""
    pair = _pair(writer, reader)
    if pair in seen:
        return
    seen |= {pair}
    readers = reader.alternatives()
    for branch in writer.alternatives():
        attempts = [list(_branch_refusals(branch, option, path, seen)) for option in readers]
        if not any(reasons == [] for reasons in attempts):
            same_kind = [
                reasons
                for option, reasons in zip(readers, attempts, strict=True)
                if option.node.get("type") == branch.node.get("type")
            ]
            if len(same_kind) == 1:
                yield from same_kind[0]
            elif len(attempts) == 1:
                yield from attempts[0]
            else:
                yield f"{path}: none of {len(readers)} alternatives accepts {_kind(branch.node)}"


def _branch_refusals(writer: _Side, reader: _Side, path: str, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    yield from _type_refusals(writer.node, reader.node, path)
    yield from _value_refusals(writer.node, reader.node, path)
    yield from _bound_refusals(writer.node, reader.node, path)
    for keyword in sorted((writer.node.keys() | reader.node.keys()) - _KNOWN):
        # Covers pattern, format, uniqueItems and whatever pydantic may write one day.
        if keyword in reader.node and not _same(writer, reader, keyword):
            yield _differs(path, keyword, writer.node, reader.node)
    yield from _object_refusals(writer, reader, path, seen)
    yield from _array_refusals(writer, reader, path, seen)


def _type_refusals(writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    wrote, reads = writer.get("type"), reader.get("type")
    if reads is not None and wrote != reads and (wrote, reads) != ("integer", "number"):
        yield f"{path}: type is {wrote or 'anything'} for the writer, {reads} for the reader"


def _value_refusals(writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    wrote, reads = _values(writer), _values(reader)
    if reads is None:
        return
    if wrote is None:
        yield f"{path}: the reader allows only {', '.join(map(str, reads))}"
        return
    for value in wrote:
        if value not in reads:
            yield f"{path}: the writer may say {value!r}, the reader allows only {', '.join(map(str, reads))}"


def _bound_refusals(writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    for keyword in _LOWER_BOUNDS:
        if keyword in reader and not (keyword in writer and writer[keyword] >= reader[keyword]):
            yield _differs(path, keyword, writer, reader)
    for keyword in _UPPER_BOUNDS:
        if keyword in reader and not (keyword in writer and writer[keyword] <= reader[keyword]):
            yield _differs(path, keyword, writer, reader)


def _object_refusals(writer: _Side, reader: _Side, path: str, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    wrote, reads = writer.node.get("properties", {}), reader.node.get("properties", {})
    always = set(writer.node.get("required", ()))
    for name in reader.node.get("required", ()):
        if name not in always:
            yield f"{path}.{name}: the reader requires it, the writer may leave it out"
    closed = reader.node.get("additionalProperties", True)
    for name, node in wrote.items():
        if name in reads:
            yield from _refusals(writer.at(node), reader.at(reads[name]), f"{path}.{name}", seen)
        elif closed is False:
            yield f"{path}.{name}: the reader refuses fields that it does not know"
        elif isinstance(closed, Mapping):
            yield from _refusals(writer.at(node), reader.at(closed), f"{path}.{name}", seen)
    yield from _other_name_refusals(writer, reader, path, seen)


def _other_name_refusals(writer: _Side, reader: _Side, path: str, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Compare what may stand under names that neither lists: the keys of mappings."""
    for pattern, node in reader.node.get("patternProperties", {}).items():
        named = writer.node.get("patternProperties", {})
        if pattern in named:
            yield from _refusals(writer.at(named[pattern]), reader.at(node), f"{path}.<{pattern}>", seen)
        else:
            yield f"{path}.<{pattern}>: the reader constrains these names, the writer does not"
    closed = reader.node.get("additionalProperties", True)
    others = writer.node.get("additionalProperties", True)
    if isinstance(closed, Mapping) and others is not False:
        yield from _refusals(writer.at(others), reader.at(closed), f"{path}.*", seen)
    elif closed is False and isinstance(others, Mapping):
        yield f"{path}.*: the reader refuses fields that it does not know"


def _array_refusals(writer: _Side, reader: _Side, path: str, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    wrote, reads = writer.node.get("prefixItems", ()), reader.node.get("prefixItems", ())
    if len(wrote) != len(reads):
        yield f"{path}: the writer names {len(wrote)} leading items, the reader {len(reads)}"
    for index, (left, right) in enumerate(zip(wrote, reads, strict=False)):
        yield from _refusals(writer.at(left), reader.at(right), f"{path}[{index}]", seen)
    if "items" in reader.node:
        if reader.node["items"] is False:
            if writer.node.get("items") is not False:
                yield f"{path}[*]: the reader refuses more items"
        else:
            yield from _refusals(
                writer.at(writer.node.get("items", True)), reader.at(reader.node["items"]), f"{path}[*]", seen
            )


def _pair(left: _Side, right: _Side) -> tuple[int, int]:
    """Return what identifies two nodes under comparison: schemas that refer to themselves must end somewhere."""
    return id(left.node.get("properties", left.node)), id(right.node.get("properties", right.node))


def _values(node: Schema) -> list[Any] | None:
    return [node["const"]] if "const" in node else node.get("enum")


def _same(left: _Side, right: _Side, keyword: str) -> bool:
    """Compare an unknown keyword; one that refers elsewhere is the same only if everything it might refer to is."""
    value = left.node.get(keyword)
    if value != right.node.get(keyword):
        return False
    return "$ref" not in repr(value) or left.root.get("$defs") == right.root.get("$defs")


def _differs(path: str, keyword: str, writer: Schema, reader: Schema) -> str:
    wrote, reads = _shown(writer, keyword), _shown(reader, keyword)
    return f"{path}: {keyword} is {wrote} for the writer, {reads} for the reader"


def _shown(node: Schema, keyword: str) -> str:
    return repr(node[keyword]) if keyword in node else "unset"


def _kind(node: Schema) -> str:
    values = _values(node)
    return f"the values {values}" if values else f"type {node.get('type', 'anything')}"
