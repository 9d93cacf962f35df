"""A sandbox of the kernel's namespaces, set up by bwrap.

Own network with nothing but loopback, own processes, IPC and host name; a root of its own that holds the system and
Python for reading, the named folders, and nothing else. Started by root, the program is another user, who exists
nowhere else; started by anybody else, it is in a user namespace, with no rights over anything outside.
"""

import base64
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from services.artifact_builder.sandbox import confine
from services.artifact_builder.sandbox.engines import Engine, Program
from services.artifact_builder.sandbox.limits import STATUS_FD
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, Order, SupervisorError, run_limited
from services.artifact_builder.sandbox.seccomp import filter_for
from services.artifact_builder.sandbox.visible import covered, files_of_etc, hand_over, python_folders, system_folders

FIRST_USER: Final = 0x7000_0000
"""With the builder's process id a user that exists nowhere: above what distributions and systemd hand out.
Source: https://systemd.io/UIDS-GIDS/"""
IN_MEMORY_BYTES: Final = 64 * 2**20
"""Of /tmp and of /dev/shm, each."""
TASKS_PER_PROCESS: Final = 4
"""The kernel counts threads where the supervisor counts processes."""
_PROBE_S: Final = 20
_SMALL: Final = Limits(wall_s=_PROBE_S)
_SIGNALLED: Final = range(129, 193)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What `confine.py` is told. `user` is None where a user namespace does the same."""

    user: int | None
    tasks: int
    seccomp: str
    status_fd: int


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Runs programs under bwrap."""

    scratch: Path
    """A folder that the program does not see, for what bwrap has to be given as files."""
    hidden: tuple[Path, ...] = ()
    """What is never shown, even inside a folder that is."""
    readable: tuple[Path, ...] = ()
    """Folders of the machine that every program may read."""

    @property
    def engine(self) -> Engine:
        return Engine.BUBBLEWRAP

    async def run(self, program: Program) -> Ended:
        """As `Sandbox.run`."""
        user = sandbox_user()
        etc = files_of_etc(self.scratch / "etc", os.geteuid() if user is None else user)
        if user is not None:
            hand_over((*program.writable, *program.readable), user)
        ended = await run_limited(
            self.command(program, user, etc),
            cwd=program.cwd,
            environment=program.environment,
            limits=program.limits,
            order=Order(watched=tuple(map(str, program.writable)), confined=True),
        )
        if ended.ending is Ending.NOT_CONFINED:
            said = " / ".join(ended.last_lines[-3:]) or f"exit code {ended.exit_code}"
            raise SupervisorError(f"bubblewrap did not set up the sandbox: {said}")
        if ended.exit_code is not None and ended.exit_code in _SIGNALLED:  # bwrap tells a signal as a shell does
            return replace(ended, exit_code=128 - ended.exit_code)
        return ended

    def command(
        self, program: Program, user: int | None, etc: Mapping[str, Path], *, status_fd: int = STATUS_FD
    ) -> list[str]:
        """Return the whole command line: bwrap, what confines itself, the program."""
        shown = [*python_folders(), *self.readable]
        writable = list(program.writable)
        arguments = [
            *_namespaces(user),
            *_system(),
            *_memory("/tmp"),  # noqa: S108 - the sandbox's own; TMPDIR is on disk, and larger
            *_bound("--ro-bind", shown),
            *_covers(covered(self.hidden, shown)),
            *(part for inside, outside in etc.items() for part in ("--ro-bind", str(outside), inside)),
            *_bound("--ro-bind", [path for path in program.readable if path not in writable]),
            *_bound("--bind", writable),
            *_memory("/dev/shm"),  # noqa: S108 - as above
            *("--remount-ro", "/dev", "--remount-ro", "/"),
            *("--chdir", str(program.cwd)),
        ]
        confinement = Confinement(
            user=user,
            tasks=program.limits.processes * TASKS_PER_PROCESS,
            seccomp=base64.b64encode(filter_for(platform.machine())).decode(),
            status_fd=status_fd,
        )
        launcher = [sys.executable, "-I", "-S", confine.__file__, json.dumps(asdict(confinement))]
        return ["bwrap", *arguments, "--", *launcher, *program.command]


def sandbox_user() -> int | None:
    """Return the user that a program becomes when the builder is root; None when it is not."""
    return FIRST_USER + os.getpid() if os.geteuid() == 0 else None


def _namespaces(user: int | None) -> list[str]:
    own = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    rights = ["--cap-drop", "ALL"]
    if user is None:
        own += ["--unshare-user", "--disable-userns"]
    else:  # `confine.py` needs these two to become the user, and loses them by it
        rights += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*own, *rights, "--hostname", "sandbox", "--die-with-parent", "--new-session"]


def _system() -> Iterator[str]:
    for path in system_folders():
        if path.is_symlink() and not path.is_relative_to("/etc"):
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from _bound("--ro-bind", [path])
    yield from ("--proc", "/proc", "--dev", "/dev")


def _memory(path: str) -> list[str]:
    return ["--perms", "1777", "--size", str(IN_MEMORY_BYTES), "--tmpfs", path]


def _bound(option: str, paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from _parents(path)
        yield from (option, str(path), str(path))


def _parents(path: Path) -> Iterator[str]:
    """Make the folders on the way, which bwrap itself would make for root alone."""
    for parent in reversed(path.parents[:-1]):
        yield from ("--dir", str(parent))


def _covers(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from ("--tmpfs", str(path)) if path.is_dir() else ("--ro-bind", "/dev/null", str(path))


@functools.cache
def trouble() -> str:
    """Return why bubblewrap does not work here, or an empty string: found once, by starting a real sandbox."""
    if shutil.which("bwrap") is None:
        return "bwrap is not installed"
    with TemporaryDirectory(prefix="edgeloop-probe-") as folder:
        place = Path(folder)
        user = sandbox_user()
        etc = files_of_etc(place / "etc", os.geteuid() if user is None else user)
        program = Program((sys.executable, "-I", "-S", "-c", ""), Path("/"), {}, _SMALL)
        read_end, write_end = os.pipe()
        command = Bubblewrap(place).command(program, user, etc, status_fd=write_end)
        try:
            done = subprocess.run(  # noqa: S603 - our own arguments
                command, capture_output=True, text=True, timeout=_PROBE_S, check=False, pass_fds=(write_end,), cwd="/"
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            os.close(read_end)
            os.close(write_end)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"bwrap ended with {done.returncode}"
