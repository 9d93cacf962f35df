"""Processes that are watched: trivial ones, really killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from edgeloop.errors import InfrastructureError
from edgeloop.stack import launcher, supervisor
from edgeloop.stack.supervisor import ProcessSpec, SupervisedProcess, last_lines
from tests.support import eventually, has_ended, text_of

SLEEP = "import sys, time; print('begun', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); time.sleep(60)"
)


def spec_of(directory: Path, code: str, *, ready_deadline_s: float = 10, stop_grace_s: float = 5) -> ProcessSpec:
    log = directory / "logs" / "child.log"

    async def ready(_pid: int) -> bool:
        return "begun" in log.read_text()

    return ProcessSpec(
        "child",
        lambda: (sys.executable, "-c", code),
        lambda: dict(os.environ),
        log,
        ready,
        ready_deadline_s=ready_deadline_s,
        stop_grace_s=stop_grace_s,
    )


async def test_a_killed_process_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    child = SupervisedProcess(spec_of(tmp_path, SLEEP), said.append)
    await child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: "child is back" in said)
    assert child.pid not in (None, first)
    assert said[0] == "child ended with signal SIGKILL; starting it again in 0.5 s"
    await child.stop()
    assert child.pid is None


async def test_a_process_that_ends_at_once_fails_the_start_with_its_last_lines(tmp_path: Path) -> None:
    child = SupervisedProcess(spec_of(tmp_path, "raise SystemExit('no such key')"), print)
    with pytest.raises(InfrastructureError, match="ended with exit code 1 before it was ready") as caught:
        await child.start()
    assert "no such key" in caught.value.message
    assert "child.log" in caught.value.next_step
    await child.stop()


async def test_a_process_that_is_never_ready_fails_the_start(tmp_path: Path) -> None:
    child = SupervisedProcess(spec_of(tmp_path, "import time; time.sleep(60)", ready_deadline_s=0.3), print)
    with pytest.raises(InfrastructureError, match="not ready within"):
        await child.start()
    await child.stop()
    assert child.pid is None


async def test_a_process_that_refuses_its_settings_stays_down(tmp_path: Path) -> None:
    said: list[str] = []
    code = "import sys, time; print('begun', flush=True); time.sleep(0.3); sys.exit(2)"
    child = SupervisedProcess(spec_of(tmp_path, code), said.append)
    await child.start()
    await eventually(lambda: bool(said))
    assert "refused its settings and stays down" in said[0]
    await asyncio.sleep(0.2)
    assert child.pid is None
    await child.stop()


async def test_a_process_that_does_not_drain_is_killed_with_what_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); {STUBBORN}"
    child = SupervisedProcess(spec_of(tmp_path, code, stop_grace_s=0.5), said.append)
    await child.start()
    assert child.pid is not None
    process = psutil.Process(child.pid)
    await eventually(lambda: bool(process.children()))
    (grandchild,) = process.children()
    await child.stop()
    await eventually(lambda: has_ended(grandchild.pid))
    assert "did not drain" in said[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: elsewhere the kernel does not tell a child")
async def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    command = [sys.executable, "-c", child]
    parent = (
        f"import os, subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, {launcher.__file__!r}, str(os.getpid()), *{command!r}]); time.sleep(60)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    orphan = int(await eventually(lambda: text_of(pid_file)))
    process.kill()
    await process.wait()
    await eventually(lambda: has_ended(orphan))


async def test_the_previous_log_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, SLEEP)
    spec.log.parent.mkdir()
    spec.log.write_text("of last time\n")
    child = SupervisedProcess(spec, print)
    await child.start()
    await child.stop()
    assert spec.log.with_suffix(".log.1").read_text() == "of last time\n"
    assert "of last time" not in spec.log.read_text()


def test_the_end_of_a_log_is_indented_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    assert last_lines(log, 2) == "  line 98\n  line 99"
    assert last_lines(tmp_path / "none.log") == "  (empty)"


async def test_who_gives_up_is_started_again_and_its_last_line_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    code = "import sys, time; print('begun', flush=True); time.sleep(0.3); sys.exit('the disk is full')"
    child = SupervisedProcess(spec_of(tmp_path, code), said.append)
    await child.start()
    await eventually(lambda: "child is back" in said)
    assert said[0] == "child ended with exit code 1 (the disk is full); starting it again in 0.5 s"
    await child.stop()


async def test_what_cannot_be_started_now_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_BACKOFF_S", 0.1)
    said: list[str] = []
    spec = spec_of(tmp_path, SLEEP)
    child = SupervisedProcess(spec, said.append)
    await child.start()
    away = spec.log.parent.rename(tmp_path / "away")
    spec.log.parent.write_text("in the way")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await eventually(lambda: any("cannot be started" in line for line in said))
    spec.log.parent.unlink()
    away.rename(spec.log.parent)
    await eventually(lambda: "child is back" in said)
    await child.stop()
