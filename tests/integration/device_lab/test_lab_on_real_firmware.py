"""The lab on firmware that was generated, compiled and signed for a small model: sound, corrupted, crashing, broken."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from services.device_lab_scheduler.bench import Bench, BenchError, BoardJob, run_on_board
from services.device_lab_scheduler.handlers import Deps, run_staging
from services.device_lab_scheduler.store import METADATA
from shared.emulation.emulators import Emulator
from shared.events import CheckOutcome, envelop
from shared.events.lab import CandidateAccepted, CandidateRefused, Parity, RunStaging
from shared.procedures.staging import BoardRun
from shared.releases.release import Firmware
from shared.store import Store
from tests.data.gestures.release import MemoryBlobs, gestures_release
from tests.integration.device_lab.workshop import Workshop, flip_a_weight, read_where_nothing_is
from tests.support import has_ended, wait_until


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench(Emulator.UNICORN, workers=2, board_deadline_s=120)
    yield bench
    bench.close()


@pytest.fixture
async def deps(tmp_path: Path, bench: Bench) -> AsyncIterator[Deps]:
    store = Store(f"sqlite:///{tmp_path / 'lab.db'}", METADATA)
    yield Deps(MemoryBlobs(), store, bench, Emulator.UNICORN)
    store.close()


async def stage(deps: Deps, *firmware: Firmware) -> CandidateAccepted | CandidateRefused:
    assert isinstance(deps.blobs, MemoryBlobs)
    digest, _ = gestures_release(deps.blobs, firmware=firmware, boards=[part.board for part in firmware])
    order = RunStaging(project="acme-gestures", receiver="device-lab-scheduler", digest=digest)
    event = envelop(order, event_id=uuid4(), source="test", time=datetime.now(UTC), correlation_id=uuid4())
    (said,) = await run_staging.call(event, deps)
    assert isinstance(said, CandidateAccepted | CandidateRefused)
    return said


def failed(said: CandidateAccepted | CandidateRefused) -> list[str]:
    return [check.name for check in said.checks if check.outcome is not CheckOutcome.PASSED]


async def test_sound_firmware_is_bit_exact_on_every_board(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    built = [workshop.build(deps.blobs, board) for board in ("cortex-m0plus", "cortex-m4", "cortex-m7")]
    accepted = await stage(deps, *built)
    assert isinstance(accepted, CandidateAccepted), accepted.reason
    assert [board.board for board in accepted.boards] == ["cortex-m0plus", "cortex-m4", "cortex-m7"]
    for board, firmware in zip(accepted.boards, built, strict=True):
        assert board.parity is Parity.BIT_EXACT
        assert (board.inputs, board.mismatches) == (90, 0)
        assert board.flash_bytes == firmware.flash_bytes
        assert 0 < board.stack_bytes == board.ram_bytes - firmware.ram_bytes
        assert board.instructions > 1512  # more than one for each multiply-accumulate
        assert board.emulator.startswith("unicorn ")


async def test_a_flipped_weight_is_found_by_the_golden_vector_or_parity(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    refused = await stage(deps, workshop.build(deps.blobs, "cortex-m4", flip_a_weight))
    assert isinstance(refused, CandidateRefused)
    assert "parity-cortex-m4" in failed(refused)
    (board,) = refused.boards
    assert board.parity is Parity.DIFFERS
    assert board.mismatches > 0
    assert f"parity-cortex-m4: {board.mismatches} of 90 output vectors differ from tflm" in refused.reason


async def test_a_crash_names_the_board_and_the_program_counter(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    sound = workshop.build(deps.blobs, "cortex-m7")
    refused = await stage(deps, workshop.build(deps.blobs, "cortex-m4", read_where_nothing_is), sound)
    assert isinstance(refused, CandidateRefused)
    assert failed(refused) == ["runs-cortex-m4"]
    assert "pc" in refused.reason
    assert "addr2line" in refused.reason
    assert [board.board for board in refused.boards] == ["cortex-m7"]


async def test_an_image_that_is_none_is_refused(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    firmware = workshop.build(deps.blobs, "cortex-m4")
    refused = await stage(deps, firmware.model_copy(update={"image": deps.blobs.keep(b"\xff" * 4096)}))
    assert isinstance(refused, CandidateRefused)
    assert failed(refused) == ["runs-cortex-m4"]


@pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is missing: apt-get install qemu-system-arm"
)
async def test_qemu_gives_a_second_opinion_that_agrees(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    bench = Bench(Emulator.AUTO, workers=1, board_deadline_s=120)
    try:
        accepted = await stage(
            replace(deps, boards=bench, emulator=Emulator.AUTO), workshop.build(deps.blobs, "cortex-m4")
        )
    finally:
        bench.close()
    assert isinstance(accepted, CandidateAccepted), accepted.reason
    (opinion,) = (check for check in accepted.checks if check.name == "cross-check-cortex-m4")
    assert opinion.observed.startswith("qemu ")


async def test_a_missing_qemu_is_no_second_opinion_and_no_refusal(
    deps: Deps, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (job,) = await jobs_of(deps, workshop, rows=90)
    monkeypatch.setenv("PATH", str(tmp_path))
    run = run_on_board(job, Emulator.AUTO, 60)
    assert (run.fault, run.mismatches, run.second_opinion) == ("", 0, None)
    with pytest.raises(BenchError, match="EDGELOOP_LAB_EMULATOR=unicorn"):
        run_on_board(job, Emulator.QEMU, 60)


async def jobs_of(deps: Deps, workshop: Workshop, rows: int) -> list[BoardJob]:
    """Return the job that staging makes of sound firmware, with its rows repeated up to `rows`."""
    assert isinstance(deps.blobs, MemoryBlobs)
    kept: list[BoardJob] = []

    class Keeping:
        async def run(self, jobs: Sequence[BoardJob]) -> list[BoardRun]:
            kept.extend(jobs)
            return [BoardRun(board=job.board.name, fault="not run") for job in jobs]

    await stage(replace(deps, boards=Keeping()), workshop.build(deps.blobs, "cortex-m4"))
    (job,) = kept
    times = -(-rows // len(job.inputs))
    return [
        replace(
            job,
            inputs=job.inputs.repeat(times, axis=0),
            labels=job.labels.repeat(times),
            expected=job.expected.repeat(times, axis=0),
        )
    ]


async def test_a_killed_worker_is_the_labs_failure_and_the_next_run_has_a_new_one(
    deps: Deps, workshop: Workshop
) -> None:
    jobs = await jobs_of(deps, workshop, rows=90)
    bench = Bench(Emulator.UNICORN, workers=1, board_deadline_s=60)
    try:
        await bench.run(jobs)
        assert bench._pool is not None
        for pid in list(bench._pool._processes):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(BenchError, match="cortex-m4"):
            await bench.run(jobs)
        (run,) = await bench.run(jobs)
        assert (run.fault, run.mismatches) == ("", 0)
    finally:
        bench.close()


async def test_a_board_that_takes_too_long_is_the_labs_failure(deps: Deps, workshop: Workshop) -> None:
    jobs = await jobs_of(deps, workshop, rows=5000)
    bench = Bench(Emulator.UNICORN, workers=1, board_deadline_s=0.05)
    try:
        with pytest.raises(BenchError, match=r"EDGELOOP_LAB_BOARD_DEADLINE_S"):
            await bench.run(jobs)
    finally:
        bench.close()


def test_emulators_die_with_the_service(workshop: Workshop) -> None:
    script = (
        "import asyncio, sys, multiprocessing, numpy as np\n"
        "from services.device_lab_scheduler.bench import Bench, BoardJob\n"
        "from shared.procedures.rig import Emulator\n"
        "from shared.boards import image_board\n"
        "async def main():\n"
        "    bench = Bench(Emulator.UNICORN, workers=1, board_deadline_s=60)\n"
        "    none = np.zeros((0, 1), np.int8)\n"
        "    await bench.run([BoardJob(b'', image_board('cortex-m4'), b'', none, none.astype(np.int64)[:, 0], none)])\n"
        "    print(*bench._pool._processes, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    file = workshop.folder / "orphans.py"
    file.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, env=environment) as service:
        assert service.stdout is not None
        workers = [int(pid) for pid in service.stdout.readline().split()]
        assert workers
        service.kill()
        service.wait()
        wait_until(lambda: all(map(has_ended, workers)))


def test_no_emulator_is_left_behind(bench: Bench) -> None:
    bench.close()
    wait_until(lambda: not multiprocessing.active_children())


async def test_firmware_for_another_core_does_not_pass(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    foreign = workshop.build(deps.blobs, "cortex-m7")
    refused = await stage(deps, foreign.model_copy(update={"board": "cortex-m0plus"}))
    assert isinstance(refused, CandidateRefused)
    assert failed(refused) == ["runs-cortex-m0plus"]
