"""The lab on firmware that was generated, compiled and signed for a small model: sound, corrupted, crashing, broken."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from services.device_lab_scheduler.desk import Desk
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.handlers import Deps, run_staging
from services.device_lab_scheduler.staging import DeskBoards
from services.device_lab_scheduler.stepping import Stepper
from services.device_lab_scheduler.store import METADATA
from shared.boards import image_boards
from shared.bus.outcomes import Retry
from shared.emulation.emulators import Emulator
from shared.events import CheckOutcome, envelop
from shared.events.lab import CandidateAccepted, CandidateRefused, Parity, RunStaging
from shared.interop.signed_results import unsigned_result
from shared.places.agent import PlaceAgent
from shared.places.emulated import emulated_rigs
from shared.places.workers import Workers
from shared.releases.release import Firmware
from shared.store import Store, outbox
from tests.data.gestures.release import MemoryBlobs, gestures_release
from tests.integration.device_lab.workshop import Workshop, flip_a_weight, read_where_nothing_is
from tests.unit.device_lab.desk_world import Line, unit_of


@asynccontextmanager
async def lab(folder: Path, blobs: MemoryBlobs, emulator: Emulator, deadline_s: float = 120) -> AsyncIterator[Deps]:
    """A desk over a database, the emulated boards of this machine, and a line that loses nothing."""
    store = Store(f"sqlite:///{folder / 'lab.db'}", METADATA, outbox.METADATA)
    workers = Workers(spares=2)
    rigs = emulated_rigs("local", [(board, 1) for board in image_boards()], emulator, workers)
    agent = PlaceAgent("local", rigs, blobs.get)
    desk = Desk(unit_of(store), Line({"local": agent}), Rules(), clock=time.time, document=unsigned_result)
    stepper = Stepper(desk, every_s=0.05)
    await desk.announced(await agent.announced())
    tasks = [asyncio.create_task(stepper.run()), asyncio.create_task(agent.keep_deadlines())]
    boards = DeskBoards(desk, blobs, procedure=f"staging-1/{emulator}", deadline_s=deadline_s)
    try:
        yield Deps(blobs, store, boards, emulator, unsigned_result)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stepper.close()
        await agent.close()
        workers.close()
        store.close()


@pytest.fixture
async def deps(tmp_path: Path) -> AsyncIterator[Deps]:
    async with lab(tmp_path, MemoryBlobs(), Emulator.UNICORN) as deps:
        yield deps


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
async def test_qemu_gives_a_second_opinion_that_agrees(deps: Deps, workshop: Workshop, tmp_path: Path) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    async with lab(tmp_path / "auto", deps.blobs, Emulator.AUTO) as both:
        accepted = await stage(both, workshop.build(deps.blobs, "cortex-m4"))
    assert isinstance(accepted, CandidateAccepted), accepted.reason
    (opinion,) = (check for check in accepted.checks if check.name == "cross-check-cortex-m4")
    assert opinion.observed.startswith("qemu ")


async def test_a_missing_qemu_is_no_second_opinion_and_no_refusal(
    deps: Deps, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    firmware = workshop.build(deps.blobs, "cortex-m4")
    monkeypatch.setenv("PATH", str(tmp_path))
    async with lab(tmp_path / "auto", deps.blobs, Emulator.AUTO) as alone:
        accepted = await stage(alone, firmware)
    assert isinstance(accepted, CandidateAccepted), accepted.reason
    assert not [check for check in accepted.checks if check.name.startswith("cross-check")]
    async with lab(tmp_path / "qemu", deps.blobs, Emulator.QEMU) as without:
        with pytest.raises(Retry, match="EDGELOOP_LAB_EMULATOR=unicorn"):
            await stage(without, firmware)


async def test_a_board_that_takes_too_long_is_the_labs_failure(deps: Deps, workshop: Workshop, tmp_path: Path) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    firmware = workshop.build(deps.blobs, "cortex-m4")
    async with lab(tmp_path / "lab", deps.blobs, Emulator.UNICORN, deadline_s=0.05) as hasty:
        with pytest.raises(Retry, match="staging was not through within"):
            await stage(hasty, firmware)
    async with lab(tmp_path / "lab", deps.blobs, Emulator.UNICORN) as patient:
        assert isinstance(await stage(patient, firmware), CandidateAccepted)


async def test_firmware_for_another_core_does_not_pass(deps: Deps, workshop: Workshop) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    foreign = workshop.build(deps.blobs, "cortex-m7")
    refused = await stage(deps, foreign.model_copy(update={"board": "cortex-m0plus"}))
    assert isinstance(refused, CandidateRefused)
    assert failed(refused) == ["runs-cortex-m0plus"]
