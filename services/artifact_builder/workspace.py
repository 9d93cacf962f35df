"""Folders to build in, that do not outlive a build, not even one that was killed."""

import fcntl
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.artifact_builder.left_behind import remove

log = logging.getLogger(__name__)

_LOCK: Final = ".lock"
_PREFIX: Final = "build-"
_NAMED: Final = 3


@contextmanager
def workspace(work: Path, *, prefix: str = _PREFIX) -> Iterator[Path]:
    """Give an empty folder below `work`, locked as long as this process lives, and remove it at the end."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=work))
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
                gone = _remove(folder)
        except BlockingIOError:
            continue
        except OSError:
            gone = _remove(folder)
        if gone:
            removed.append(folder.name)
    return removed


def _remove(folder: Path) -> bool:
    """Remove a folder; say in the log what stands in the way, and return whether it is gone."""
    trouble = remove(folder)
    if trouble:
        log.error(
            "workspace %s cannot be removed, and takes room: %s. Next: remove it as its owner, or as root; the next "
            "start tries it again",
            folder,
            "; ".join(map(str, trouble[:_NAMED])),
        )
    return not trouble
