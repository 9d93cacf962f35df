"""`edgeloop up` with every service, as a user runs it: one stack for many questions, since starting takes a while."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from edgeloop.cli import execute
from edgeloop.stack.stack import SERVICES
from tests.support import has_ended, wait_until

START_DEADLINE_S = 120


def up(data: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "edgeloop", "up", "--data", str(data), "--json", *options]
    with (data.parent / "up.log").open("a") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def ready(stack: "subprocess.Popen[str]") -> Any:
    assert stack.stdout is not None
    return json.loads(stack.stdout.readline())


@contextlib.contextmanager
def stopped_after(stack: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        if stack.poll() is None:
            stack.send_signal(signal.SIGTERM)
        stack.wait(60)
        assert stack.stdout is not None
        stack.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stack_starts_recovers_refuses_a_second_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    stack = up(data)
    with stopped_after(stack):
        state = ready(stack)
        assert set(state["services"]) == {"nats", *SERVICES}
        children = psutil.Process(stack.pid).children(recursive=True)

        assert execute(["doctor", "--json", "--data", str(data)]) == 0
        found = {finding["name"]: finding["health"] for finding in json.loads(capsys.readouterr().out)["findings"]}
        assert all(found[name] == "ok" for name in SERVICES)
        assert execute(["run", "list", "--json", "--data", str(data)]) == 0
        assert json.loads(capsys.readouterr().out) == []

        assert execute(["up", "--data", str(data)]) == 3
        assert f"a stack is already running here (process {stack.pid})" in capsys.readouterr().err

        service = json.loads((data / "run" / "source_webhook.json").read_text())
        os.kill(service["pid"], signal.SIGKILL)

        def is_back() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{service['http']}/readyz").status_code == 200
            return False

        wait_until(lambda: has_ended(service["pid"]))
        wait_until(is_back)
        assert "source_webhook ended with signal SIGKILL" in (tmp_path / "up.log").read_text()

        os.kill(stack.pid, signal.SIGTERM)
        assert stack.wait(60) == 0
        assert not (data / "stack.json").exists()
        wait_until(lambda: all(has_ended(child.pid) for child in children))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: elsewhere the kernel does not tell a child")
def test_nothing_survives_a_stack_that_is_killed_and_the_next_one_takes_over(tmp_path: Path) -> None:
    data = tmp_path / "data"
    stack = up(data)
    with stopped_after(stack):
        first = ready(stack)
        children = psutil.Process(stack.pid).children(recursive=True)
        assert any(child.name() == "nats-server" for child in children)
        stack.kill()
        wait_until(lambda: all(has_ended(child.pid) for child in children))
    again = up(data)
    with stopped_after(again):
        assert ready(again)["webhook_url"] == first["webhook_url"]
