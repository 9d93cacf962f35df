"""Folders that somebody else's program wrote to: opened, walked and removed, whatever it made there.

It may have shut files to everybody, its owner and so the builder included, and nested folders deeper than Python
recurses or the kernel follows a path. The program has ended by then, so that nothing changes meanwhile.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

_FOLDER: Final = 0o700
_FILE: Final = 0o600


def open_up(top: Path) -> None:
    """Give the owner of everything below `top`, and of itself, the right to read and to remove it. Follows no link.

    Raises:
        PermissionError: something in there belongs to somebody else; it is named.
    """
    _give(str(top), top.lstat().st_mode, _FOLDER)
    waiting = [str(top)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                waiting += [entry.path for entry in entries if _opened(entry)]
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # nobody names what lies deeper
                raise


def _opened(entry: "os.DirEntry[str]") -> bool:
    """Open one entry up; return whether it is a folder."""
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        _give(entry.path, mode, _FOLDER)
    elif stat.S_ISREG(mode):
        _give(entry.path, mode, _FILE)
    return stat.S_ISDIR(mode)


def below(top: Path) -> Iterator[Path]:
    """Yield everything below `top` but the folders, in no order. Follows no link."""
    waiting = [str(top)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield Path(entry.path)


def files_below(top: Path) -> Iterator[Path]:
    """Yield every file below `top`, in no order; links, pipes and sockets are none."""
    return (path for path in below(top) if stat.S_ISREG(path.lstat().st_mode))


def remove(top: Path) -> list[OSError]:
    """Remove `top` and everything below it, as far as that can be done; return what went wrong.

    A folder is moved up to `top` before it is emptied, so that there is no depth at which a path becomes too long.
    """
    trouble: list[OSError] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        with _noted(trouble):
            waiting += _emptied(folder, top, trouble)
            if folder != top:
                folder.rmdir()
    with _noted(trouble):
        top.rmdir()
    return trouble


def _emptied(folder: Path, top: Path, trouble: list[OSError]) -> list[Path]:
    """Remove the files of a folder, and move its folders up to `top`; return where they are now."""
    moved = []
    _give(str(folder), folder.lstat().st_mode, _FOLDER)
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        with _noted(trouble):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)  # noqa: PTH108 - as below
                continue
            _give(entry.path, entry.stat(follow_symlinks=False).st_mode, _FOLDER)
            moved.append(Path(entry.path).rename(top / uuid4().hex))
    return moved


def _give(path: str, mode: int, rights: int) -> None:
    if mode & rights != rights:
        os.chmod(path, stat.S_IMODE(mode) | rights)  # noqa: PTH101 - very many, and paths may be very long


@contextmanager
def _noted(trouble: list[OSError]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:  # another builder that found it abandoned removes it too
        return
    except OSError as error:
        trouble.append(error)
