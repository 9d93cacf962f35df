"""One child process: started, waited for, started again when it dies, and stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from edgeloop.errors import InfrastructureError
from edgeloop.stack import launcher

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 15.0
STEADY_AFTER_S: Final = 30.0
"""A process that lived so long begins again with the first backoff."""
POLL_S: Final = 0.1
EXIT_WRONG_SETTINGS: Final = 2
LAST_LINES: Final = 8

Say: TypeAlias = Callable[[str], None]
"""Tells a person what happened."""
Ready: TypeAlias = Callable[[int], Awaitable[bool]]
"""Whether the process with this id can do its work."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run and how to know that it is ready. `command` and `env` are asked for at every start."""

    name: str
    command: Callable[[], tuple[str, ...]]
    env: Callable[[], Mapping[str, str]]
    log: Path
    ready: Ready
    ready_deadline_s: float = 60
    stop_grace_s: float = 10


class SupervisedProcess:
    """A process that is there until it is told to stop."""

    def __init__(self, spec: ProcessSpec, say: Say) -> None:
        self.spec = spec
        self.restarts = 0
        self._say = say
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process, while there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start, wait until ready, and watch from then on.

        Raises:
            InfrastructureError: it ended, or was not ready in time; with the end of its log.
        """
        self._keep_previous_log()
        process = await self._spawn()
        await self._until_ready(process)
        self._watch = asyncio.create_task(self._keep_alive(process), name=f"supervise {self.spec.name}")

    async def stop(self) -> None:
        """Ask the process to drain, then end its whole group: programs it started do not outlive it."""
        self._stopping = True
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self.spec.stop_grace_s)
            except TimeoutError:
                self._say(
                    f"{self.spec.name} did not drain in {self.spec.stop_grace_s:g} s: killed; it resumes next time"
                )
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), *self.spec.command()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.env()),
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop the others in order
            )
        return self._process

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + self.spec.ready_deadline_s
        while not await self.spec.ready(process.pid):
            if process.returncode is not None:
                raise self._failure(f"ended with {_exit(process.returncode)} before it was ready")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready within {self.spec.ready_deadline_s:g} s")
            await asyncio.sleep(POLL_S)

    async def _keep_alive(self, process: asyncio.subprocess.Process) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping:
            began = time.monotonic()
            code = await process.wait()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind
            if code == EXIT_WRONG_SETTINGS:
                self._say(f"{self.spec.name} refused its settings and stays down; see {self.spec.log}")
                return
            if time.monotonic() - began > STEADY_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            # Who was killed said nothing; who gave up said why.
            why = "" if code < 0 else f" ({last_lines(self.spec.log, 1).strip()})"
            self._say(f"{self.spec.name} ended with {_exit(code)}{why}; starting it again in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
            self.restarts += 1
            process = await self._start_again()

    async def _start_again(self) -> asyncio.subprocess.Process:
        while True:
            try:
                process = await self._spawn()
                break
            except OSError as error:  # no memory, no file handles, no room for a log
                self._say(f"{self.spec.name} cannot be started ({error}); trying again in {LONGEST_BACKOFF_S:g} s")
                await asyncio.sleep(LONGEST_BACKOFF_S)
        try:
            await self._until_ready(process)
        except InfrastructureError as error:
            if process.returncode is None:  # who ended by itself is spoken of next
                self._say(error.message.splitlines()[0])
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        else:
            self._say(f"{self.spec.name} is back")
        return process

    def _failure(self, what: str) -> InfrastructureError:
        return InfrastructureError(
            f"{self.spec.name} {what}; its log ends:\n{last_lines(self.spec.log)}", next_step=f"less {self.spec.log}"
        )

    def _keep_previous_log(self) -> None:
        if self.spec.log.exists():
            self.spec.log.replace(self.spec.log.with_suffix(".log.1"))


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """Return the end of a log file, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        lines = []
    return "\n".join(f"  {line[:400]}" for line in lines) or "  (empty)"


def _exit(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
