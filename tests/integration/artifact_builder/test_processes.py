import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, last_lines, run_limited
from tests.support import eventually, has_ended, text_of

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}


async def run(tmp_path: Path, code: str, limits: Limits | None = None) -> Ended:
    command = [sys.executable, "-c", code]
    return await run_limited(command, cwd=tmp_path, environment=ENVIRONMENT, limits=limits or Limits(wall_s=30))


async def appears(path: Path, words: int = 1) -> list[int]:
    """Wait for a file that a program writes process ids into."""
    await eventually(lambda: len(text_of(path).split()) == words)
    return [int(word) for word in text_of(path).split()]


async def test_a_program_that_ends_well_has_succeeded(tmp_path: Path) -> None:
    ended = await run(tmp_path, "print('one'); print('two')")
    assert ended.succeeded
    assert ended.last_lines == ("one", "two")


async def test_a_program_that_fails_leaves_its_last_lines(tmp_path: Path) -> None:
    ended = await run(tmp_path, "for n in range(100): print('epoch', n)\nraise SystemExit('no data')")
    assert (ended.ending, ended.exit_code) == (Ending.EXITED, 1)
    assert len(ended.last_lines) == 40
    assert ended.last_lines[-2:] == ("epoch 99", "no data")


async def test_a_signal_is_told_from_an_exit(tmp_path: Path) -> None:
    assert (await run(tmp_path, "import os; os.kill(os.getpid(), 11)")).exit_code == -signal.SIGSEGV


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    ended = await run_limited(["no-such-program"], cwd=tmp_path, environment=ENVIRONMENT, limits=Limits(wall_s=5))
    assert ended.ending is Ending.NOT_STARTED
    assert "no-such-program" in ended.error


async def test_a_program_that_never_ends_is_ended(tmp_path: Path) -> None:
    ended = await run(tmp_path, "import time; print('begun', flush=True); time.sleep(999)", Limits(wall_s=2))
    assert (ended.ending, ended.last_lines) == (Ending.TIMEOUT, ("begun",))


async def test_children_do_not_outlive_the_program(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()                      # a daemon: another session, and its parent ends
    if os.fork() == 0:
        open("daemon", "w").write(str(os.getpid()))
        os.execvp("sleep", ["sleep", "999"])
    os._exit(0)
child = subprocess.Popen(["sleep", "999"])
open("child", "w").write(str(child.pid))
while not (os.path.exists("daemon") and open("daemon").read()): time.sleep(0.01)
"""
    ended = await run(tmp_path, code)
    assert ended.succeeded
    pids = [int((tmp_path / name).read_text()) for name in ("child", "daemon")]
    await eventually(lambda: all(map(has_ended, pids)))


async def test_memory_is_counted_over_all_children(tmp_path: Path) -> None:
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0: break
data = b"x" * 60_000_000
time.sleep(999)
"""
    ended = await run(tmp_path, code, Limits(wall_s=30, memory_bytes=150_000_000))
    assert ended.ending is Ending.MEMORY
    assert ended.peak_rss_bytes > 150_000_000


async def test_too_many_processes_are_ended(tmp_path: Path) -> None:
    code = "import os, time\nfor _ in range(20):\n    if os.fork() == 0: break\ntime.sleep(999)"
    ended = await run(tmp_path, code, Limits(wall_s=30, processes=10))
    assert ended.ending is Ending.PROCESSES


async def test_megabytes_of_output_are_cut_to_their_end(tmp_path: Path) -> None:
    ended = await run(tmp_path, "import sys\nfor _ in range(50): sys.stdout.write('x' * 1_000_000)\nprint('\\nend')")
    assert ended.last_lines[-1] == "end"
    assert sum(map(len, ended.last_lines)) < 2000


async def test_a_file_that_grows_too_large_is_refused(tmp_path: Path) -> None:
    ended = await run(tmp_path, "open('big', 'wb').write(bytes(2_000_000))", Limits(wall_s=30, file_bytes=1_000_000))
    assert not ended.succeeded
    assert "File too large" in ended.last_lines[-1]
    assert (tmp_path / "big").stat().st_size <= 1_000_000


async def test_a_cancelled_caller_leaves_nothing_running(tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(999)"
    task = asyncio.create_task(run(tmp_path, code))
    [pid] = await appears(tmp_path / "pid")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: has_ended(pid))


async def test_a_killed_builder_leaves_nothing_running(tmp_path: Path) -> None:
    code = f"""
import asyncio, pathlib, sys
from services.artifact_builder.sandbox.processes import Limits, run_limited
inner = '''
import os, subprocess, time
child = subprocess.Popen(["sleep", "999"])
open("pids", "w").write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(999)
'''
asyncio.run(run_limited([sys.executable, "-c", inner], cwd=pathlib.Path({str(tmp_path)!r}),
                        environment={ENVIRONMENT!r}, limits=Limits(wall_s=60)))
"""
    builder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    pids = await appears(tmp_path / "pids", words=2)
    builder.kill()
    await builder.wait()
    await eventually(lambda: all(map(has_ended, pids)))


def test_progress_bars_and_colours_are_shown_as_a_terminal_would() -> None:
    assert last_lines(b"\x1b[31mred\x1b[0m\n 1%\r50%\r100%\nlast\r\n\n") == ("red", "100%", "last")
