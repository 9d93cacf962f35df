"""Folders to build in, that do not outlive a build, not even one that was killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOCK: Final = ".lock"
_PREFIX: Final = "build-"


@contextmanager
def workspace(work: Path) -> Iterator[Path]:
    """Give an empty folder below `work`, locked as long as this process lives, and remove it at the end."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=work))
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        _remove(folder)


def remove_stale(work: Path) -> list[str]:
    """Remove what killed builders left below `work`, and return the folders' names. Those of living builders stay."""
    removed = []
    for folder in sorted(work.glob(f"{_PREFIX}*")):
        try:
            with (folder / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        except BlockingIOError:
            continue
        except OSError:
            _remove(folder)
        removed.append(folder.name)
    return removed


def _remove(folder: Path) -> None:
    """Remove a folder, and in it those that a step shut to everybody, its owner included."""
    for top, names, _ in os.walk(folder):
        for path in (Path(top, name) for name in names):
            with contextlib.suppress(OSError):
                if not path.is_symlink():
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
