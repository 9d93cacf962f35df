"""Programs that take more than their share: processes, memory, disk. Each is bounded, should it not be contained."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.artifact_builder.sandbox.engines import Engine
from services.artifact_builder.sandbox.processes import Ending
from tests.integration.artifact_builder.hostile import TIGHT, Place, and_the_next_is_well
from tests.integration.artifact_builder.sandboxes import sandbox_of


async def test_a_program_that_forks_without_end_is_ended(place: Place) -> None:
    async with and_the_next_is_well(place):
        ended = await place.run("""
for _ in range(6):      # 64 at most, should nothing stop it
    try: os.fork()
    except OSError: pass
time.sleep(60)
""")
        assert ended.ending is Ending.PROCESSES, ended


async def test_the_kernel_refuses_more_tasks_than_a_sandbox_may_have(strong: Place) -> None:
    ended = await strong.run("""
import threading
started = 0
try:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); started += 1
except RuntimeError:
    print(40 < started < 100)
    os._exit(7)
""")
    assert (ended.exit_code, ended.last_lines) == (7, ("True",))


async def test_a_program_that_eats_memory_is_ended(place: Place) -> None:
    async with and_the_next_is_well(place):
        ended = await place.run("""
kept = []
for _ in range(60):
    kept.append(bytearray(b"x" * 10_000_000)); time.sleep(0.02)
time.sleep(60)
""")
        assert ended.ending is Ending.MEMORY, ended


async def test_a_program_that_fills_the_disk_with_many_files_is_ended(place: Place) -> None:
    async with and_the_next_is_well(place):
        ended = await place.run("""
for n in range(40):
    open(os.environ["OUT"] + f"/{n}", "wb").write(bytes(5_000_000)); time.sleep(0.02)
time.sleep(60)
""")
        assert ended.ending is Ending.DISK, ended
        assert ended.disk_bytes > TIGHT.disk_bytes
        for file in (place.root / "output").iterdir():
            file.unlink()


async def test_files_that_were_deleted_and_are_still_open_count_as_well(place: Place) -> None:
    ended = await place.run("""
kept = []
for n in range(10):
    file = open(os.environ["OUT"] + "/same", "wb"); os.unlink(file.name)
    file.write(bytes(10_000_000)); file.flush(); kept.append(file)
time.sleep(60)
""")
    assert ended.ending is Ending.DISK, ended


async def test_files_in_memory_that_never_had_a_name_count_as_well(place: Place) -> None:
    """Nobody's resident memory shows them."""
    ended = await place.run("""
kept = []
for n in range(10):
    kept.append(os.memfd_create(str(n)))
    os.write(kept[-1], bytes(10_000_000))
time.sleep(60)
""")
    assert ended.ending is Ending.DISK, ended


async def test_memory_that_outlives_its_process_is_not_to_be_had(tmp_path: Path) -> None:
    """System V segments are in nobody's resident memory; a container's control group counts them."""
    place = Place(tmp_path, sandbox_of(Engine.BUBBLEWRAP, tmp_path / "scratch"))
    ended = await place.run("import ctypes; print(ctypes.CDLL(None).shmget(0, ctypes.c_size_t(4096), 0o1600))")
    assert ended.last_lines == ("-1",)


SHARED = """
import mmap
for n in range(60):
    memory = mmap.mmap(-1, 10_000_000); memory.write(bytes(10_000_000)); memory.madvise(mmap.MADV_DONTNEED)
    globals()[f"kept{n}"] = memory
time.sleep(60)
"""
SEGMENTS = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for n in range(60):
    address = libc.shmat(libc.shmget(0, ctypes.c_size_t(10_000_000), 0o1600), None, 0)
    ctypes.memset(address, 1, 10_000_000); libc.shmdt(ctypes.c_void_p(address))
time.sleep(60)
"""
AT_ONCE = "kept = bytearray(b'x') * 2_000_000_000; time.sleep(60)"
IN_A_CHILD = f"""
import subprocess
subprocess.run([sys.executable, "-c", {AT_ONCE!r}], check=True)
"""


@pytest.mark.parametrize("code", [SHARED, SEGMENTS, AT_ONCE, IN_A_CHILD], ids=["shared", "segments", "once", "child"])
async def test_memory_that_nobody_sees_in_time_is_what_a_containers_control_group_ends(
    code: str, tmp_path: Path
) -> None:
    place = Place(tmp_path, sandbox_of(Engine.CONTAINER, tmp_path / "scratch"))
    async with and_the_next_is_well(place):
        ended = await place.run(code)
        assert ended.ending is Ending.MEMORY, ended
        assert ended.peak_rss_bytes > TIGHT.memory_bytes


async def test_very_many_small_files_are_too_many(place: Place) -> None:
    ended = await place.run("""
for n in range(700): open(os.environ["OUT"] + f"/{n}", "w").close()
time.sleep(60)
""")
    assert ended.ending is Ending.DISK, ended


@pytest.mark.parametrize("where", ["/tmp", "/dev/shm"])
async def test_memory_that_looks_like_a_disk_is_small(where: str, strong: Place) -> None:
    limits = replace(TIGHT, file_bytes=2**30)
    ended = await strong.run(
        f"""
try:
    with open({where!r} + "/big", "wb") as file:
        for n in range(300): file.write(bytes(1_000_000))
except OSError as error: print(error.strerror, n < 70)
""",
        limits,
    )
    assert ended.last_lines == ("No space left on device True",), ended
