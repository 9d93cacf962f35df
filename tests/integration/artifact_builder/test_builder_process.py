"""The service as a process: told to stop, and killed, in the middle of a build."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer, Publisher
from shared.events.artifact import BuildFailed, BuildStage
from shared.events.catalogue import decode, subject_filter
from shared.events.source import Forge, SourcePushed
from tests.support import ServiceProcess, has_ended, text_of, wait_until


class Builder(ServiceProcess):
    """The builder's process, and what it leaves on disk."""

    def __init__(self, url: str, data: Path, key: Path) -> None:
        super().__init__("artifact_builder", url, data, EDGELOOP_SIGNING_KEY=str(key))
        # The programs of these tests write where the tests can see it.
        self.settings |= {"EDGELOOP_SANDBOX": "process", "EDGELOOP_TRUSTED_REPOSITORIES": '["file://*"]'}

    def start(self) -> None:
        self.state_file.unlink(missing_ok=True)
        super().start()
        wait_until(self.state_file.exists)

    def folders(self) -> list[Path]:
        return list((self.data / "builder" / "work").glob("build-*"))


@pytest.fixture
def builder(nc: Client, nats_server: EmbeddedServer, tmp_path: Path, signing_key: Path) -> Iterator[Builder]:
    assert nc.is_connected
    builder = Builder(nats_server.url, tmp_path, signing_key)
    yield builder
    if builder.running:
        builder.stop(signal.SIGKILL)


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
    assert builder.stop(signal.SIGTERM) == 0


async def test_a_killed_builder_leaves_no_program_and_its_folder_goes_at_the_next_start(
    nc: Client, builder: Builder, make_repository: Any, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(999)"
    builder.start()
    await push(nc, *make_repository({"train.py": code}))
    pid = int(wait_until(lambda: text_of(pid_file)))
    builder.stop(signal.SIGKILL)
    wait_until(lambda: has_ended(pid))
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
