"""What a repository may hold before anything of it is read or run: a pure judgement of its list of files.

git refuses some of this itself, late and in its own words. What comes from a fetch has links and submodules, but no
special files; a folder of the author's, which `edgeloop check` looks at, may have those too.
"""

import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
LFS_POINTER_BYTES: Final = 1024
DOCUMENTATION: Final = frozenset({"doc", "docs", ".github"})
"""Folders at the top in which a pointer in place of a picture hurts no training."""
NAMED: Final = 10
NAME_BYTES: Final = 255
PATH_BYTES: Final = 1024
PATH_PARTS: Final = 100
"""Less than any of our machines takes, and no more than programs nest calls while they walk."""
_LINKS_FOLLOWED: Final = 40
_PATH_CHARACTERS: Final = 200


class Kind(StrEnum):
    """What an entry of a repository is."""

    FILE = "file"
    LINK = "symbolic link"
    SUBMODULE = "submodule"
    SPECIAL = "special file"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a repository, relative to its top."""

    path: str
    kind: Kind
    size_bytes: int = 0
    target: str = ""
    """Where a link points, as written; empty when that is not known yet."""
    is_lfs_pointer: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """How large a repository may be, checked out."""

    files: int = 20_000
    total_bytes: int = 2 * 2**30


def problems(entries: Sequence[Entry], allowed: Allowance) -> list[str]:
    """Return what is wrong with a repository, the first few of each kind; an empty list when nothing is."""
    found = [*_too_much(entries, allowed)]
    links = {entry.path: entry.target for entry in entries if entry.kind is Kind.LINK}
    judged = (problem for entry in entries if (problem := _problem(entry, links)))
    found += itertools.islice(judged, NAMED)
    found += itertools.islice(_collisions(entries), NAMED)
    return found


def _too_much(entries: Sequence[Entry], allowed: Allowance) -> Iterator[str]:
    if len(entries) > allowed.files:
        yield too_many_files(len(entries), allowed)
    total = sum(entry.size_bytes for entry in entries)
    if total > allowed.total_bytes:
        largest = max(entries, key=lambda entry: entry.size_bytes)
        yield (
            f"the repository has {total:,} bytes checked out, {largest.size_bytes:,} of them in {shown(largest.path)}; "
            f"allowed are {allowed.total_bytes:,}. Next: take out data that training does not read, or let the "
            "operator raise EDGELOOP_CHECKOUT_BYTES"
        )


def too_many_files(count: int, allowed: Allowance) -> str:
    """Return the message for a repository with more files than are allowed."""
    return (
        f"the repository has {count:,} files or more; allowed are {allowed.files:,}. "
        "Next: pack them into archives, or let the operator raise EDGELOOP_CHECKOUT_FILES"
    )


def _problem(entry: Entry, links: Mapping[str, str]) -> str:
    name = shown(entry.path)
    if reason := bad_name(entry.path):
        return f"{name}: the path {reason}. Next: rename it; allowed are plain relative paths"
    if entry.kind is Kind.SUBMODULE:
        return (
            f"{name} is a submodule, and submodules are not fetched. Next: commit the files it holds, or remove it "
            f"with `git rm {name}`"
        )
    if entry.kind is Kind.SPECIAL:
        return f"{name} is a device, pipe or socket; allowed are files and folders. Next: remove it"
    if entry.kind is Kind.LINK and entry.target and (reason := _bad_link(entry.path, links)):
        return (
            f"{name} is a symbolic link to {shown(entry.target)}, which {reason}; allowed are links to what the "
            "repository itself holds. Next: commit the file in its place"
        )
    if entry.is_lfs_pointer and PurePosixPath(entry.path).parts[0] not in DOCUMENTATION:
        return (
            f"{name} is a Git LFS pointer, not the data: the builder does not fetch from LFS. Next: commit the file "
            f"itself (git lfs untrack, git add --renormalize {name}), or let data.prepare make it"
        )
    return ""


def bad_name(path: str) -> str:
    """Return what is wrong with a path, as the end of a sentence; empty when nothing is."""
    parts = path.split("/")
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts or "." in parts or "" in parts:
        return "has a part that is empty, '.' or '..'"
    if any(part.lower() == ".git" for part in parts):
        return "goes into .git"
    if any(ord(character) < 32 or character == "\x7f" for character in path):
        return "has a control character"
    if "\\" in path:
        return "has a backslash, which is a slash on Windows"
    return _cannot_be_everywhere(parts)


def _cannot_be_everywhere(parts: Sequence[str]) -> str:
    """Return why there are machines that cannot have such a path."""
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "is not UTF-8"
    if max(sizes) > NAME_BYTES:
        return f"has a name longer than {NAME_BYTES} bytes"
    if sum(sizes) + len(sizes) > PATH_BYTES or len(parts) > PATH_PARTS:
        return f"is longer than {PATH_BYTES:,} bytes, or than {PATH_PARTS} folders"
    return ""


def _collisions(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what a commit can hold and a folder cannot: not everywhere, or not anywhere.

    In the order of their places, paths that share a folder follow each other: neighbours are all that can collide.
    """
    paths = sorted((_place(entry.path), entry.path.split("/")) for entry in entries)
    for (place, one), (next_place, other) in itertools.pairwise(paths):
        shared = _alike(place, next_place)
        if (same := _alike(one, other)) < shared:
            at = same + 1
            yield _one_path("/".join(one[:at]), "/".join(other[:at]))
        elif one == other:
            yield f"{shown('/'.join(one))} is there twice. Next: make the commit with git"
        elif shared == len(one):
            name = shown("/".join(one))
            yield f"{name} is a file, and {shown('/'.join(other))} makes it a folder. Next: make the commit with git"


def _place(path: str) -> list[str]:
    """Return the parts of a path as a file system compares them that ignores case and how Unicode writes a letter.

    Source: Unicode Standard, D145 "canonical caseless matching"; it is what APFS does.
    """
    if path.isascii():
        return path.lower().split("/")
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold()).split("/")


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts two paths begin with alike."""
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _one_path(one: str, other: str) -> str:
    names = [shown(one), shown(other)]
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):  # they look the same
        names = [ascii(one)[1:-1], ascii(other)[1:-1]]
    return (
        f"{names[0]} and {names[1]} are one path where the file system ignores case, or how Unicode writes a letter: a "
        "checkout there is another one. Next: rename one of them with git mv"
    )


def _bad_link(path: str, links: Mapping[str, str]) -> str:
    """Follow a link as the kernel would, through all other links, without touching a disk."""
    at: list[str] = path.split("/")[:-1]
    waiting = [*reversed(links[path].split("/"))]
    if links[path].startswith("/"):
        return "is absolute"
    followed = 1
    while waiting:
        step = waiting.pop()
        if step in ("", "."):
            continue
        if step == "..":
            if not at:
                return "leaves the repository"
            at.pop()
            continue
        at.append(step)
        target = links.get("/".join(at))
        if target is None:
            continue
        followed += 1
        if target.startswith("/"):
            return "leaves the repository"
        if followed > _LINKS_FOLLOWED:
            return "leads in a circle"
        at.pop()
        waiting += reversed(target.split("/"))
    return "goes into .git" if any(part.lower() == ".git" for part in at) else ""


def shown(path: str) -> str:
    """Return a path that can be printed: control characters escaped, and not endless."""
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in path)
    return text if len(text) <= _PATH_CHARACTERS else text[:_PATH_CHARACTERS] + "…"


def entries_of_listing(listing: bytes) -> Iterator[Entry]:
    """Read what ``git ls-tree -r -z -l --full-tree COMMIT`` says. Where links point is not in it."""
    for line in listing.split(b"\0"):
        if not line:
            continue
        description, _, path = line.partition(b"\t")
        mode, _, _, size = description.split()
        kind = {b"120000": Kind.LINK, b"160000": Kind.SUBMODULE}.get(mode, Kind.FILE)
        yield Entry(os.fsdecode(path), kind, int(size) if size.isdigit() else 0)


def entries_of_folder(top: Path, *, at_most: int) -> Iterator[Entry]:
    """Walk a folder, following no link, and not into its own .git; ends after `at_most` entries."""
    waiting, count = [""], 0
    while waiting:
        folder = waiting.pop()
        with os.scandir(top / folder) as found:
            for item in found:
                path = f"{folder}/{item.name}" if folder else item.name
                if path == ".git":
                    continue
                if item.is_dir(follow_symlinks=False):
                    waiting.append(path)
                    continue
                yield _entry_of(item, path)
                count += 1
                if count > at_most:
                    return


def _entry_of(item: "os.DirEntry[str]", path: str) -> Entry:
    if item.is_symlink():
        return Entry(path, Kind.LINK, target=os.readlink(item.path))  # noqa: PTH115 - as written, not as a path
    state = item.stat(follow_symlinks=False)
    if not stat.S_ISREG(state.st_mode):
        return Entry(path, Kind.SPECIAL)
    pointer = len(LFS_POINTER) < state.st_size <= LFS_POINTER_BYTES and _starts_with_pointer(item.path)
    return Entry(path, Kind.FILE, state.st_size, is_lfs_pointer=pointer)


def _starts_with_pointer(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123 - thousands of them
        return file.read(len(LFS_POINTER)) == LFS_POINTER
