"""The files of a repository that a step sees. What is left out cannot matter: it is not there when the step runs."""

import hashlib
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice, takewhile
from pathlib import Path
from typing import Final, Self

from services.artifact_builder.caching.keys import NOT_IN_KEY
from services.artifact_builder.errors import AuthorError

DOCUMENTATION: Final = (
    "**/*.md",
    "**/*.rst",
    "docs",
    "**/LICENSE*",
    "**/NOTICE*",
    "**/.git*",
    "edgeloop.yaml",
    ".edgeloop.schema.json",
)
"""What no step sees unless its `inputs` name it. What a step needs of the manifest it is told by variables."""

MAXIMUM_PATTERNS: Final = 100
"""Of one step: each is compared with every file."""

_TIMESTAMP_S: Final = 315_532_800  # 1980-01-01, the earliest that archives can hold: a checkout's own time is chance


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, by what of it a program can see."""

    path: str
    """From the top of the repository, with slashes."""
    content: str
    """SHA-256 of the bytes in hex, or ``-> target`` of a link."""
    executable: bool = False

    @property
    def target(self) -> str | None:
        """Where a link points to, from its own folder; None for a file."""
        return self.content.removeprefix("-> ") if self.content.startswith("-> ") else None

    @property
    def place(self) -> str | None:
        """Where a link leads to, from the top of the repository; None for a file."""
        if self.target is None:
            return None
        return os.path.normpath(os.path.join(os.path.dirname(self.path), self.target))  # noqa: PTH118, PTH120 - text


@dataclass(frozen=True, slots=True)
class Tree:
    """A set of files of one checkout, sorted by path. Its key is their content, wherever the checkout lies."""

    root: Path = field(metadata=NOT_IN_KEY)
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, checkout: Path) -> Self:
        """Return every file of a checkout but git's own."""
        return cls(checkout, tuple(sorted(_entries(checkout), key=lambda entry: entry.path)))

    def matching(self, patterns: Sequence[str]) -> "Tree":
        """Return the files that one of `patterns` names."""
        named = [re.compile(expression(pattern)) for pattern in patterns]
        return Tree(self.root, tuple(entry for entry in self.entries if any(one.match(entry.path) for one in named)))

    def following(self, patterns: Sequence[str]) -> "Tree":
        """Return the files that one of `patterns` names, and what links among them lead to."""
        found = {entry.path: entry for entry in self.matching(patterns).entries}
        waiting, places = list(found.values()), set[str]()
        while waiting:
            entry = waiting.pop()
            place = entry.place
            if place is None or place in places:
                continue
            places.add(place)
            led_to = [other for other in self._at(place) if other.path not in found]
            found |= {other.path: other for other in led_to}
            waiting += led_to
        return Tree(self.root, tuple(sorted(found.values(), key=lambda entry: entry.path)))

    def _at(self, place: str) -> Iterator[Entry]:
        """Yield the file or link at a path, or all that is in the folder."""
        inside = "" if place == "." else f"{place}/"
        yield from self._from(place, lambda path: path == place)
        yield from self._from(inside, lambda path: path.startswith(inside))

    def _from(self, path: str, goes_on: Callable[[str], bool]) -> Iterator[Entry]:
        begin = bisect_left(self.entries, path, key=lambda entry: entry.path)
        return takewhile(lambda entry: goes_on(entry.path), islice(self.entries, begin, None))

    def without(self, patterns: Sequence[str]) -> "Tree":
        """Return the files that none of `patterns` names."""
        left_out = {entry.path for entry in self.matching(patterns).entries}
        return Tree(self.root, tuple(entry for entry in self.entries if entry.path not in left_out))

    def for_step(self, key: str, inputs: Sequence[str]) -> "Tree":
        """Return what the step at `key` of the manifest sees: its `inputs`, or all but the documentation.

        Raises:
            AuthorError: a pattern names nothing, there are too many, or a link leads out of the repository.
        """
        if len(inputs) > MAXIMUM_PATTERNS:
            raise AuthorError(
                f"{key}.inputs has {len(inputs)} patterns; allowed are {MAXIMUM_PATTERNS}. Next: name folders instead"
            )
        for index, pattern in enumerate(inputs):
            if not self.matching([pattern]).entries:
                raise AuthorError(
                    f"{key}.inputs[{index}]: {pattern!r} names no file of the repository. Next: write a path from its "
                    "top; * stands for any part of a name, ** for any folders, a folder for all that is in it"
                )
        seen = self.following(inputs) if inputs else self.without(DOCUMENTATION)
        _require_links_inside(seen.entries)
        return seen

    def copy_to(self, folder: Path) -> None:
        """Write the files below `folder`, with modes and times that are the same on every machine."""
        folder.mkdir(parents=True)
        for entry in self.entries:
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.target is not None:
                path.symlink_to(entry.target)
                continue
            shutil.copyfile(self.root / entry.path, path)
            path.chmod(0o755 if entry.executable else 0o644)
            os.utime(path, (_TIMESTAMP_S, _TIMESTAMP_S))
        for path in (folder, *(place for place in folder.rglob("*") if place.is_dir() and not place.is_symlink())):
            path.chmod(0o755)


def expression(pattern: str) -> str:
    """Return a pattern as a regular expression. It begins at the top; a folder stands for all that is in it.

    What follows a star is looked for once: where it is found first leaves most to the rest, so that nothing is gained
    by trying later places. Atomic groups say so, and no pattern takes more than a moment.
    """
    runs = [list(run) for is_names, run in groupby(_parts(pattern), lambda part: part != "**") if is_names]
    begins, ends = _parts(pattern)[0] != "**", _parts(pattern)[-1] != "**"
    found = []
    for index, run in enumerate(runs):
        names = "/".join(map(_name, run)) + ("(?=/|$)" if ends and run is runs[-1] else "/")
        found.append(names if begins and index == 0 else f"(?>(?:[^/]+/)*?{names})")
    return "".join(found) + ("" if ends else ".")


def _parts(pattern: str) -> list[str]:
    return pattern.strip("/").split("/")


def _name(part: str) -> str:
    first, *others = ("".join("[^/]" if sign == "?" else re.escape(sign) for sign in text) for text in part.split("*"))
    if not others:
        return first
    *inner, last = others
    return f"{first}{''.join(f'(?>[^/]*?{text})' for text in inner)}(?>[^/]*?{last}(?=/|$))"


def _entries(root: Path) -> Iterator[Entry]:
    for folder, folders, files in os.walk(root):
        place = Path(folder)
        if place == root:
            folders[:] = [name for name in folders if name != ".git"]
            files = [name for name in files if name != ".git"]  # noqa: PLW2901 - a work tree's link to its repository
        for name in (*files, *folders):
            path = place / name
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                yield Entry(relative, f"-> {path.readlink()}")
            elif path.is_file():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield Entry(relative, digest, executable=bool(path.stat().st_mode & 0o100))


def _require_links_inside(entries: Iterable[Entry]) -> None:
    for entry in entries:
        if entry.place is not None and entry.place.startswith(("..", "/")):
            raise AuthorError(
                f"{entry.path} is a link to {entry.target}, outside of the repository. "
                "Next: commit the file itself, or leave it out of the step's inputs"
            )
