"""Commands that read, given the directory of a stack that has stopped."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from edgeloop.cli import execute
from edgeloop.layout import Layout
from edgeloop.stack.lock import exclusive
from shared.bus import EmbeddedServer, Publisher
from shared.events import Trigger, derived_id
from shared.events.artifact import BuildFailed, BuildStage

RUN = derived_id("one")
FAILED = BuildFailed(
    project="acme-gait", commit="ab" * 20, trigger=Trigger.PUSH, stage=BuildStage.TRAIN, reason="train.py: exit code 1"
)


@pytest.fixture
async def stopped(nc: Client, nats_server: EmbeddedServer, tmp_path: Path) -> Path:
    """The directory of a stack that saw a failed run and was stopped."""
    await Publisher(nc, "test").publish(FAILED, event_id=derived_id(RUN), run_id=RUN)
    await nc.close()
    await asyncio.to_thread(nats_server.stop)
    return tmp_path


async def cli(data: Path, *arguments: str) -> int:
    return await asyncio.to_thread(execute, [*arguments, "--data", str(data), "--json"])


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


async def test_what_a_stopped_stack_left_can_be_read(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await cli(stopped, "run", "list") == 0
    runs, said = printed(capsys)
    assert [run["run_id"] for run in runs] == [str(RUN)]
    assert "no stack is running" in said
    assert await cli(stopped, "run", "show", str(RUN)[:8]) == 1
    assert printed(capsys)[0]["reason"] == "train: train.py: exit code 1"
    assert await cli(stopped, "dlq", "ls") == 0
    assert printed(capsys)[0] == []
    assert await cli(stopped, "dlq", "show", "1") == 2


async def test_the_stack_can_start_again_after_its_messages_were_read(stopped: Path) -> None:
    assert await cli(stopped, "run", "list") == 0
    with exclusive(Layout(stopped).lock_file), EmbeddedServer(Layout(stopped).nats) as server:
        assert server.is_running


async def test_a_stack_that_is_starting_is_not_disturbed(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(Layout(stopped).lock_file):
        assert await cli(stopped, "run", "list") == 3
    answer, _ = printed(capsys)
    assert "starting or stopping" in answer["error"]


@pytest.mark.parametrize("command", [["run", "watch"], ["dlq", "replay", "--all"], ["dlq", "drop", "--all"]])
async def test_what_needs_the_services_says_so(
    stopped: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert await cli(stopped, *command) == 3
    answer, _ = printed(capsys)
    assert answer["next_step"].startswith(f"start it with `edgeloop up --data {stopped}`")
