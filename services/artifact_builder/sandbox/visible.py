"""What a program in a sandbox sees of the machine beside the folders that are named to it."""

import os
import site
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
_OURS: Final = ("services", "shared")
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_CONFIGURATION: Final = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
"""Of /etc nothing but this: no accounts, no host keys, no configuration of services."""


def system_folders() -> list[Path]:
    """Return what programs need of the system; links such as /bin ▸ usr/bin are links."""
    return [path for path in map(Path, (*_SYSTEM, *_CONFIGURATION)) if path.exists()]


def python_folders() -> list[Path]:
    """Return where this interpreter, its packages, and the builder's own code are."""
    prefixes = [sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent.parent)]
    if site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages()):  # noqa: PTH112 - a plain question
        prefixes.append(site.getusersitepackages())
    found = [Path(prefix) for prefix in prefixes]
    return without_parts([*found, *(path.resolve() for path in found), *(ROOT / name for name in _OURS)])


def without_parts(paths: Iterable[Path]) -> list[Path]:
    """Return `paths` without those that lie inside another one of them, or inside the system's folders."""
    system = [Path(name) for name in _SYSTEM]
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if path.exists() and not any(path.is_relative_to(other) for other in (*system, *kept)):
            kept.append(path)
    return kept


@dataclass(frozen=True, slots=True)
class Accounts:
    """The few lines of /etc that a sandbox has of its own."""

    user: int

    @property
    def passwd(self) -> str:
        return f"root:x:0:0::/:/usr/sbin/nologin\nstep:x:{self.user}:{self.user}::/tmp:/usr/sbin/nologin\n"

    @property
    def group(self) -> str:
        return f"root:x:0:\nstep:x:{self.user}:\n"


HOSTS: Final = "127.0.0.1 localhost sandbox\n::1 localhost\n"
NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files\n"


def files_of_etc(folder: Path, user: int) -> dict[str, Path]:
    """Write the sandbox's own files of /etc into `folder`; return where each belongs."""
    folder.mkdir(parents=True, exist_ok=True)
    accounts = Accounts(user)
    texts = {"passwd": accounts.passwd, "group": accounts.group, "hosts": HOSTS, "nsswitch.conf": NSSWITCH}
    for name, text in texts.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o644)
    return {f"/etc/{name}": folder / name for name in texts}


def covered(hidden: Iterable[Path], shown: Iterable[Path]) -> list[Path]:
    """Return which of `hidden` would be seen, because they lie inside something that is shown."""
    roots = [path.resolve() for path in shown]
    return [path for path in hidden if path.exists() and any(path.resolve().is_relative_to(root) for root in roots)]


def hand_over(folders: Iterable[Path], user: int) -> None:
    """Give everything below `folders` to `user`; links themselves, never what they point at. Needs root."""
    for folder in folders:
        waiting = [str(folder)]
        _give(str(folder), user)
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    _give(entry.path, user)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)


def _give(path: str, user: int) -> None:
    if os.lstat(path).st_uid != user:
        os.chown(path, user, user, follow_symlinks=False)
