"""Programs that a build runs: where, what they get to see, and how it is said that one failed."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from services.artifact_builder.determinism import TENSORFLOW_ENVIRONMENT
from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.left_behind import open_up
from services.artifact_builder.sandbox.engines import Engine, Program, Sandbox
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, SupervisorError

_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_DISK_IS_FULL: Final = "No space left on device"
_READ_ONLY: Final = "Read-only file system"


class Host(Protocol):
    """What programs may use of the machine."""

    @property
    def step_variables(self) -> tuple[str, ...]: ...
    @property
    def conversion_timeout_s(self) -> float: ...

    def limits(self, wall_s: float) -> Limits:
        """Return the limits of a program that may take so long."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where one program runs: it writes to three folders of its own and reads what is put beside them."""

    place: Path
    sandbox: Sandbox
    host: Host
    output: Path
    home: Path
    scratch: Path
    told: Callable[[Engine], None]
    """Hears what each program runs in, when it begins."""

    @classmethod
    def of(cls, place: Path, sandbox: Sandbox, host: Host, told: Callable[[Engine], None] = lambda _: None) -> Self:
        """Make the room in `place`, which nothing else uses."""
        room = cls(place, sandbox, host, place / "output", place / "home", place / "scratch", told)
        for folder in (room.output, room.home, room.scratch):
            folder.mkdir(parents=True)
        return room

    def environment(self, extra: Mapping[str, str | Path]) -> dict[str, str]:
        """Return all that the program gets to see: none of the builder's own settings, keys or home."""
        own = {"HOME": self.home, "TMPDIR": self.scratch}
        return {
            **{name: os.environ[name] for name in (*_INHERITED, *self.host.step_variables) if name in os.environ},
            **TENSORFLOW_ENVIRONMENT,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",
            **{name: str(value) for name, value in {**own, **extra}.items()},
        }

    async def run(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        cwd: Path,
        told: Mapping[str, str | Path],
        readable: Sequence[Path] = (),
    ) -> Ended:
        """Run a program to its end; what is not its fault is raised as the machine's.

        Args:
            command: what to run.
            limits: what it may use.
            cwd: where.
            told: variables beside those that every program gets.
            readable: folders that it reads.

        Raises:
            AuthorError: it left something that nobody but another user can read.
            InfrastructureError: the disk is full, or the program was stopped from outside.
        """
        writable = (self.output, self.home, self.scratch)
        self.told(self.sandbox.engine)
        program = Program(tuple(command), cwd, self.environment(told), limits, tuple(readable), writable)
        try:
            ended = await self.sandbox.run(program)
        except SupervisorError as error:
            raise InfrastructureError(str(error)) from error
        says_full = not ended.succeeded and any(_DISK_IS_FULL in line for line in ended.last_lines)
        # A sandbox has small disks of its own, and the real one is watched.
        if ended.ending is Ending.NO_ROOM or (says_full and self.sandbox.engine is Engine.PROCESS):
            raise InfrastructureError(f"{cwd}: {_DISK_IS_FULL.lower()}, says {command[0]}. Next: free some")
        if ended.ending is Ending.STOPPED:
            raise InfrastructureError(f"{command[0]} was stopped from outside")
        await self._take_over()
        return ended

    async def _take_over(self) -> None:
        """Make what the program wrote readable for us: it may have shut it, its own folder included."""
        try:
            await asyncio.to_thread(open_up, self.output)
        except PermissionError as error:
            raise AuthorError(
                f"{Path(error.filename).relative_to(self.output)}: the program left it to another user, and it cannot "
                "be read. Next: let it write as the user that it runs as"
            ) from error


def put(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write files into a folder that is not there yet, readable for whoever runs in a sandbox; return the folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    for path in (folder, *(place for place in folder.rglob("*") if place.is_dir())):
        path.chmod(0o755)
    return folder


def inside(folder: Path, name: str) -> Path | None:
    """Return the path of what is really in `folder`: whoever wrote it may have left a link to a secret of ours."""
    try:
        path = (folder / name).resolve(strict=True)
    except (OSError, RuntimeError):  # a link in a circle is a RuntimeError before Python 3.13
        return None
    return path if path.is_relative_to(folder.resolve()) else None


def how_it_ended(ended: Ended, limits: Limits, key: str = "") -> str:
    """Return how a program failed, and what to do; `key` is its place in the manifest."""
    match ended.ending:
        case Ending.TIMEOUT:
            raise_it = f", or raise {key}.timeout_s" if key else ""
            said = f"did not end within {limits.wall_s:g} s and was ended. Next: make it faster{raise_it}"
        case Ending.MEMORY:
            used = ended.peak_rss_bytes / 2**20
            said = f"used {used:,.0f} MiB of memory, more than it may, and was ended. Next: use smaller batches"
        case Ending.PROCESSES:
            said = f"started more than {limits.processes} processes, and was ended. Next: use fewer workers"
        case Ending.DISK:
            allowed = f"{limits.disk_bytes / 2**20:,.0f} MiB in {limits.disk_files:,} files"
            said = (
                f"left {ended.disk_bytes / 2**20:,.0f} MiB on the disk, and was ended; allowed are {allowed}. "
                "Next: keep less, or let the operator raise EDGELOOP_STEP_DISK_BYTES or EDGELOOP_STEP_DISK_FILES"
            )
        case Ending.TOO_DEEP:
            said = "nested folders without end, and was ended. Next: write into fewer folders"
        case Ending.NOT_STARTED:
            said = f"could not be started: {ended.error}. Next: correct the command in edgeloop.yaml"
        case _:
            said = _how_it_exited(ended)
    return said


def _how_it_exited(ended: Ended) -> str:
    code = ended.exit_code or 0
    if code == -signal.SIGXCPU:
        return "used all the processor time that it may, and was ended. Next: train less, or start fewer threads"
    if code == -signal.SIGKILL:
        return "was killed, which the kernel does when memory runs out. Next: use smaller batches, or fewer workers"
    if code < 0:
        return f"was ended by signal {-code}. Next: run it on your own machine"
    if any(_READ_ONLY in line for line in ended.last_lines):
        return (
            f"ended with exit code {code}: the checkout and the system are read-only. "
            "Next: write into $EDGELOOP_OUTPUT_DIR, $TMPDIR or $HOME"
        )
    if any(_DISK_IS_FULL in line for line in ended.last_lines):
        return f"ended with exit code {code}: /tmp and /dev/shm are small in a sandbox. Next: write into $TMPDIR"
    return f"ended with exit code {code}. Next: mend what its last lines say"
