"""A cache in a folder: one file an entry, written in one step, checked as a whole when it is read."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.artifact_builder.caching.keys import Files

log = logging.getLogger(__name__)

MAXIMUM_BYTES: Final = 2 * 2**30
_SUFFIX: Final = ".stage"
_UNFINISHED: Final = ".unfinished-"
_UNFINISHED_AGE_S: Final = 3600.0
_DIGEST_BYTES: Final = 32


class DamagedEntryError(ValueError):
    """An entry's bytes are not those that were written."""


class FolderCache:
    """Safe among processes and kills. When it grows too large, what was not used for longest goes first."""

    def __init__(self, folder: Path, *, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        """Args: folder: made at the first put. maximum_bytes: of all entries together; a larger one is not kept."""
        self._folder = folder
        self._maximum_bytes = maximum_bytes

    async def get(self, key: str) -> Files | None:
        """Return what was put under `key`. A damaged entry is removed, said, and None."""
        return await asyncio.to_thread(self._get, key)

    async def put(self, key: str, files: Files, *, stage: str, project: str) -> None:
        """Write an entry, and make room for it.

        Raises:
            OSError: the folder cannot be written, or its disk is full.
        """
        await asyncio.to_thread(self._put, key, encode(key, files, stage=stage, project=project))

    def _get(self, key: str) -> Files | None:
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            files = decode(key, data)
        except DamagedEntryError as error:
            log.warning("%s: %s; it is removed, and the stage runs again", path, error)
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):  # another process made room
            os.utime(path)
        return files

    def _put(self, key: str, data: bytes) -> None:
        if len(data) > self._maximum_bytes:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
        self._make_room()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{_SUFFIX}"

    def _make_room(self) -> None:
        with self._only_one():
            entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
            used = sum(status.st_size for _, status in entries)
            for path, status in entries:
                if used <= self._maximum_bytes:
                    break
                path.unlink(missing_ok=True)
                used -= status.st_size

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Let one process at a time make room: two would each remove as much as is too much."""
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield every entry, and remove what killed processes left."""
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == _SUFFIX:
                    yield path, status
                elif path.name.startswith(_UNFINISHED) and time.time() - status.st_mtime > _UNFINISHED_AGE_S:
                    path.unlink()


def encode(key: str, files: Files, *, stage: str = "", project: str = "") -> bytes:
    """Return an entry: the SHA-256 of the rest, a line of JSON that names key and files, and the files' bytes."""
    sizes = [[name, len(content)] for name, content in files.items()]
    header = json.dumps({"key": key, "stage": stage, "project": project, "files": sizes}).encode()
    rest = header + b"\n" + b"".join(files.values())
    return hashlib.sha256(rest).digest() + rest


def decode(key: str, data: bytes) -> Files:
    """Return the files of an entry.

    Raises:
        DamagedEntryError: the bytes are not those that `encode` gave, or are another key's.
    """
    digest, rest = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        raise DamagedEntryError(f"{len(data):,} bytes of other content than was written")
    line, _, content = rest.partition(b"\n")
    header = json.loads(line)
    if header["key"] != key:
        raise DamagedEntryError(f"an entry of the key {header['key']}")
    files, at = {}, 0
    for name, size in header["files"]:
        files[name] = content[at : at + size]
        at += size
    return files
