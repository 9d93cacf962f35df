"""What tests of several parts do alike: wait for a condition, run git, run a service as a process."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar, cast, overload

import psutil
import pytest

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[1]
WITHIN_S: Final = 60.0
"""Longer than anything takes on a loaded machine: a wait ends with its condition, and only a failure takes so long."""
_LOOK_EVERY_S: Final = 0.02
_STOP_DEADLINE_S: Final = 60.0


@overload
async def eventually(find: Callable[[], Awaitable[T]], *, within_s: float = WITHIN_S) -> T: ...
@overload
async def eventually(find: Callable[[], T | None], *, within_s: float = WITHIN_S) -> T: ...
async def eventually(find: Callable[[], T | Awaitable[T]], *, within_s: float = WITHIN_S) -> T:
    """Return what `find` finds, as soon as that is something."""
    deadline = time.monotonic() + within_s
    while True:
        found = find()
        value = await found if isinstance(found, Awaitable) else found
        if value:
            return cast("T", value)
        _require_time(deadline, within_s)
        await asyncio.sleep(_LOOK_EVERY_S)


def wait_until(find: Callable[[], T | None], *, within_s: float = WITHIN_S, look_every_s: float = _LOOK_EVERY_S) -> T:
    """Return what `find` finds, as soon as that is something."""
    deadline = time.monotonic() + within_s
    while not (found := find()):
        _require_time(deadline, within_s)
        time.sleep(look_every_s)
    return found


def _require_time(deadline: float, within_s: float) -> None:
    if time.monotonic() > deadline:
        pytest.fail(f"did not happen within {within_s:g} s")


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder` as `make` filled it: the first of several test processes runs it, the others wait for that."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(f".{os.getpid()}")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


def text_of(file: Path) -> str:
    """Return what is in a file that another process writes; nothing while there is none."""
    return file.read_text("utf-8") if file.exists() else ""


def has_ended(pid: int) -> bool:
    """Return whether a process is gone; in a container nobody may reap orphans."""
    try:
        process = psutil.Process(pid)
        # A zombie whose threads are still at their end cannot be waited for yet: its parent takes it for alive.
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` as the same person at the same time, whatever this machine's configuration says."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    }
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


class ServiceProcess:
    """A service as a child process that can be killed and started again."""

    def __init__(self, name: str, url: str, data: Path, *, command: tuple[str, ...] = (), **settings: str) -> None:
        """Args: command: in place of ``-m services.<name>``. settings: more of its environment."""
        self.name, self.data = name, data
        self.settings = {"EDGELOOP_NATS_URL": url, "EDGELOOP_DATA": str(data), **settings}
        self._command = [sys.executable, *(command or ("-m", f"services.{name}"))]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kept: Mapping[str, str] = {key: value for key, value in os.environ.items() if not key.startswith("EDGELOOP_")}
        environment = {**kept, "PYTHONPATH": str(ROOT), **self.settings}
        with (self.data / f"{self.name}.log").open("ab") as log:
            self._child = subprocess.Popen(self._command, env=environment, stderr=log)

    def stop(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, and return the exit code."""
        assert self._child is not None
        self._child.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and return the exit code."""
        assert self._child is not None
        return self._child.wait(timeout=_STOP_DEADLINE_S)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def state_file(self) -> Path:
        """What it writes when it is ready."""
        return self.data / "run" / f"{self.name}.json"

    def log(self) -> str:
        return text_of(self.data / f"{self.name}.log")
