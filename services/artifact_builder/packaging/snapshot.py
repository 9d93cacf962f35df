"""The repository as one archive: the same files, the same bytes."""

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Final

_GIT: Final = ".git"


def snapshot_of(checkout: Path) -> bytes:
    """Return a .tar of everything in a checkout but git's own folder.

    Names are sorted; there are no dates and no owners. Links stay links. Taken before a step runs, it holds what is
    tracked.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in _files(checkout):
            member = tarfile.TarInfo(path.relative_to(checkout).as_posix())
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                archive.addfile(member)
            elif stat.S_ISREG(mode):
                data = path.read_bytes()
                member.size, member.mode = len(data), 0o755 if mode & stat.S_IXUSR else 0o644
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _files(checkout: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(checkout, followlinks=False):
        here = Path(root)
        if _GIT in folders:
            folders.remove(_GIT)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [here / name for name in (*files, *links) if not (here == checkout and name == _GIT)]
    return sorted(found, key=lambda path: path.relative_to(checkout).as_posix())
