"""Other programs as the builder sees them: a command, its limits, how it ended and the end of what it said."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from services.artifact_builder.sandbox import limits as supervisor

LINES_KEPT: Final = 40
LINE_CHARACTERS: Final = 400
TAIL_BYTES: Final = 64 * 1024
_STOP_S: Final = 10.0
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. Memory is the resident memory of the program and all that it starts."""

    wall_s: float
    memory_bytes: int = 3 * 2**30
    processes: int = 256
    file_bytes: int = 2 * 2**30
    disk_bytes: int = 8 * 2**30
    """All that it writes, in all files together."""
    disk_files: int = 100_000
    free_bytes: int = 0
    """What has to stay free on the disk that it writes to."""
    open_files: int = 1024
    nice: int = 5


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor is told beside the limits."""

    watched: tuple[str, ...] = ()
    """Folders whose contents count as written by the program."""
    output: str = ""
    """A file for its standard output; empty: together with what it says of errors."""
    confined: bool = False
    """`confine.py` is what the command runs before the program."""
    lifeline: bool = False
    """Standard input ends when the builder does."""

    def to_json(self, limits: Limits) -> str:
        return json.dumps(asdict(limits) | asdict(self))


class Ending(StrEnum):
    """How a program came to its end."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    PROCESSES = "processes"
    DISK = "disk"
    TOO_DEEP = "too-deep"
    """It nested folders until their paths were too long to count what is in them."""
    NO_ROOM = "no-room"
    """The disk is about to be full, whoever filled it."""
    NOT_STARTED = "not-started"
    NOT_CONFINED = "not-confined"
    """The sandbox did not come up: the machine's trouble."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of a program."""

    ending: Ending
    exit_code: int | None
    """Negative: the signal that ended it. None when a limit did."""
    seconds: float
    peak_rss_bytes: int
    last_lines: tuple[str, ...]
    """The end of its output, both streams together."""
    error: str = ""
    disk_bytes: int = 0
    """What was in the watched folders at the end."""

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.EXITED and self.exit_code == 0


class SupervisorError(RuntimeError):
    """The process that enforces the limits was ended from outside: the machine's trouble, not the program's."""


async def run_limited(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limits: Limits,
    order: Order = Order(),
) -> Ended:
    """Run `command` to its end. When the caller is cancelled, or killed, the program and its children die too.

    Raises:
        SupervisorError: the supervisor was killed, by the kernel's out-of-memory killer for example.
    """
    report_end, supervisor_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            supervisor.__file__,
            order.to_json(limits),
            str(supervisor_end),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            pass_fds=[supervisor_end],
            start_new_session=True,
        )
    except BaseException:
        os.close(report_end)
        raise
    finally:
        os.close(supervisor_end)
    with open(report_end, "rb") as report_file:  # noqa: PTH123, ASYNC230 - a pipe whose writer has ended by then
        try:
            async with asyncio.timeout(limits.wall_s + _STOP_S):
                tail = await _drained(process)
        except TimeoutError as error:
            raise SupervisorError(
                f"the supervisor of {command[0]} did not end it within {limits.wall_s:g} s"
            ) from error
        report = report_file.read()
    if not report:
        raise SupervisorError(f"the supervisor of {command[0]} was killed ({process.returncode})")
    return ended_of(report, tail)


def ended_of(report: bytes, tail: bytes) -> Ended:
    """Return what the supervisor's report and the end of the program's output say."""
    found = json.loads(report)
    return Ended(
        ending=Ending(found["ended"]),
        exit_code=found["exit_code"],
        seconds=found["seconds"],
        peak_rss_bytes=found["peak_rss_bytes"],
        last_lines=last_lines(tail),
        error=found["error"],
        disk_bytes=found["disk_bytes"],
    )


async def _drained(process: asyncio.subprocess.Process) -> bytes:
    """Read the output to its end, keep the last of it, and wait. On the way out nothing is left running."""
    tail = b""
    assert process.stdout is not None
    try:
        while chunk := await process.stdout.read(TAIL_BYTES):
            tail = (tail + chunk)[-TAIL_BYTES:]
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_S)
    return tail


def last_lines(output: bytes, count: int = LINES_KEPT) -> tuple[str, ...]:
    """Return the last lines as a terminal would show them: no escape sequences, of a progress bar its last state."""
    lines = []
    for line in output.decode(errors="replace").split("\n"):
        shown = _CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if shown:
            lines.append(shown if len(shown) <= LINE_CHARACTERS else shown[:LINE_CHARACTERS] + " …")
    return tuple(lines[-count:])
