"""Folders to build in, that do not outlive a build, not even one that was killed."""

import fcntl
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
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(work: Path) -> list[str]:
    """Remove what killed builders left below `work`, and return the folders' names. Those of living builders stay."""
    removed = []
    for folder in sorted(work.glob(f"{_PREFIX}*")):
        try:
            with (folder / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder.name)
    return removed
