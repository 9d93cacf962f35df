"""The service as a process: told to stop, and killed, in the middle of a build."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer, Publisher
from shared.events.artifact import BuildFailed, BuildStage
from shared.events.catalogue import decode, subject_filter
from shared.events.source import Forge, SourcePushed

T = TypeVar("T")


class Builder:
    """The builder's process and its log."""

    def __init__(self, url: str, data: Path, key: Path) -> None:
        self.data = data
        self._env = {
            "PATH": os.environ["PATH"],
            "EDGELOOP_NATS_URL": url,
            "EDGELOOP_DATA": str(data),
            "EDGELOOP_SIGNING_KEY": str(key),
        }
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.data / "builder.log").open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services.artifact_builder"], env=self._env, stderr=log
            )
        wait_until(lambda: (self.data / "run" / "artifact_builder.json").exists() or None)

    def end(self, number: int) -> int:
        assert self._child is not None
        self._child.send_signal(number)
        code = self._child.wait(timeout=60)
        (self.data / "run" / "artifact_builder.json").unlink(missing_ok=True)
        return code

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def folders(self) -> list[Path]:
        return list((self.data / "builder" / "work").glob("build-*"))


def wait_until(condition: Callable[[], T | None], within_s: float = 60) -> T:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if (found := condition()) is not None:
            return found
        time.sleep(0.05)
    pytest.fail(f"did not happen within {within_s} s")


def gone(pid: str) -> bool | None:
    return True if not Path(f"/proc/{pid}").exists() else None


@pytest.fixture
def builder(nc: Client, nats_server: EmbeddedServer, tmp_path: Path, signing_key: Path) -> Iterator[Builder]:
    assert nc.is_connected
    builder = Builder(nats_server.url, tmp_path, signing_key)
    yield builder
    if builder.running:
        builder.end(signal.SIGKILL)


async def push(nc: Client, address: str, commit: str) -> None:
    pushed = SourcePushed(
        project="gestures", repository=address, ref="refs/heads/main", commit=commit, forge=Forge.GITEA, delivery="1"
    )
    await Publisher(nc, source="test").publish(pushed, event_id=uuid4(), run_id=uuid4())


async def test_a_failing_script_becomes_an_event_on_the_bus(nc: Client, builder: Builder, make_repository: Any) -> None:
    builder.start()
    heard = await nc.subscribe(subject_filter(BuildFailed))
    await push(nc, *make_repository({"train.py": "raise SystemExit('no convergence')"}))
    message = await heard.next_msg(timeout=60)
    failed = decode(message.subject, message.data).data
    assert isinstance(failed, BuildFailed)
    assert (failed.stage, failed.last_lines) == (BuildStage.TRAIN, ("no convergence",))
    assert builder.end(signal.SIGTERM) == 0


async def test_a_killed_builder_leaves_no_program_and_its_folder_goes_at_the_next_start(
    nc: Client, builder: Builder, make_repository: Any, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(999)"
    builder.start()
    await push(nc, *make_repository({"train.py": code}))
    pid = wait_until(lambda: (pid_file.read_text() or None) if pid_file.exists() else None)
    builder.end(signal.SIGKILL)
    wait_until(lambda: gone(pid))
    [left] = builder.folders()
    builder.start()
    assert left not in builder.folders()


def test_a_builder_without_a_key_says_so_and_ends(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "EDGELOOP_NATS_URL": nats_server.url, "EDGELOOP_DATA": str(tmp_path)}
    command = [sys.executable, "-m", "services.artifact_builder"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "EDGELOOP_SIGNING_KEY" in done.stderr) == (2, True), done.stderr
    env["EDGELOOP_SIGNING_KEY"] = str(tmp_path / "none.pem")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "none.pem cannot be read" in done.stderr) == (2, True), done.stderr
