"""Emulated boards of a place: real firmware in processes that end when their holder's time is over."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from shared.bus.exchanges import RefusedError
from shared.emulation.emulators import Emulator
from shared.lab.messages import ConsoleOutput, Grant, RefusalKind, Shut, Touch, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.agent import PlaceAgent
from shared.places.emulated import EmulatedRig, emulated_rigs
from shared.places.workers import Workers
from shared.procedures.staging import read_run
from tests.integration.device_lab.workshop import Workshop, flip_a_weight, read_where_nothing_is
from tests.integration.places.gesture_work import Orders, begin, done, ended, gestures, repeated, state
from tests.support import ROOT, eventually, has_ended, wait_until

A = "local-cortex-m4-1"


@dataclass
class Bench:
    agent: PlaceAgent
    rigs: list[EmulatedRig]
    orders: Orders
    heard: list[ConsoleOutput]

    def pid(self) -> int | None:
        worker = self.rigs[0]._worker
        return worker.pid if worker else None


@pytest.fixture
async def bench(workshop: Workshop) -> AsyncIterator[Bench]:
    orders, heard = Orders(workshop), list[ConsoleOutput]()
    workers = Workers(spares=1)
    rigs = emulated_rigs("local", [("cortex-m4", 2)], Emulator.UNICORN, workers)
    agent = PlaceAgent("local", rigs, orders.blobs.get, publish=heard.append)
    yield Bench(agent, rigs, orders, heard)
    await agent.close()
    workers.close()
    wait_until(lambda: not multiprocessing.active_children())


async def test_sound_firmware_passes_staging_and_its_process_serves_the_next_holder(bench: Bench) -> None:
    work = bench.orders.work(bench.orders.image())
    found = await done(bench.agent, A, 1, work)
    assert (found.outcome, found.said) == (AttemptOutcome.PASSED, "6 inputs answered, 0 of them not as the reference")
    run = read_run(found.report)
    assert (run.inputs, run.mismatches, run.fault) == (6, 0, "")
    assert run.instructions > 1512  # more than one for each multiply-accumulate
    first = bench.pid()
    report = json.loads((await done(bench.agent, A, 2, work.model_copy(update={"procedure": "acceptance"}))).report)
    assert (report["passed"], report["figures"]["mismatches"], report["figures"]["inputs"]) == (True, 0, 6)
    assert bench.pid() == first


async def test_firmware_that_is_wrong_fails_and_firmware_that_crashes_says_where(bench: Bench) -> None:
    wrong = await done(bench.agent, A, 1, bench.orders.work(bench.orders.image(flip_a_weight)))
    assert wrong.outcome is AttemptOutcome.FAILED
    assert read_run(wrong.report).mismatches > 0
    crashing = bench.orders.image(read_where_nothing_is)
    crash = await done(bench.agent, A, 2, bench.orders.work(crashing))
    assert crash.outcome is AttemptOutcome.FAILED
    assert "pc 0x" in read_run(crash.report).fault
    crash = await done(bench.agent, A, 3, bench.orders.work(crashing, "parity"))
    assert (crash.outcome, crash.report) == (AttemptOutcome.FAILED, b"")
    assert "pc 0x" in crash.said


async def test_a_newer_grant_kills_the_process_of_the_older_one_before_it_is_answered(bench: Bench) -> None:
    image = bench.orders.image()
    await begin(bench.agent, A, 1, bench.orders.work(image, "parity", repeated(gestures(), 20_000)))
    await eventually(bench.pid)
    pid = bench.pid()
    assert pid is not None
    await bench.agent.grant(Grant(board=A, token=2, ttl_s=600))
    assert has_ended(pid)
    assert (await done(bench.agent, A, 2, bench.orders.work(image))).outcome is AttemptOutcome.PASSED


async def test_work_that_is_given_back_ends_as_a_lost_lease(bench: Bench) -> None:
    long = bench.orders.work(bench.orders.image(), "parity", repeated(gestures(), 20_000))
    await begin(bench.agent, A, 1, long)
    await bench.agent.shut(Shut(board=A, token=1))
    with pytest.raises(RefusedError, match="when it was given back"):
        await bench.agent.grant(Grant(board=A, token=1, ttl_s=600))
    assert (await ended(bench.agent, A, 1)).outcome is AttemptOutcome.LEASE_LOST


async def test_a_process_that_the_kernel_killed_is_the_labs_trouble_and_the_next_work_has_a_new_one(
    bench: Bench,
) -> None:
    image = bench.orders.image()
    await begin(bench.agent, A, 1, bench.orders.work(image, "parity", repeated(gestures(), 20_000)))
    await eventually(bench.pid)
    pid = bench.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    found = await ended(bench.agent, A, 1)
    assert found.outcome is AttemptOutcome.LAB
    assert "OOM killer" in found.said
    assert (await done(bench.agent, A, 2, bench.orders.work(image))).outcome is AttemptOutcome.PASSED


async def test_an_idle_process_that_the_kernel_killed_is_replaced(bench: Bench) -> None:
    work = bench.orders.work(bench.orders.image())
    await done(bench.agent, A, 1, work)
    pid = bench.pid()
    assert pid is not None
    await bench.agent.shut(Shut(board=A, token=1))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: has_ended(pid))
    assert (await done(bench.agent, A, 2, work)).outcome is AttemptOutcome.PASSED


async def test_work_that_is_not_through_in_time_is_the_labs_trouble(bench: Bench) -> None:
    work = bench.orders.work(bench.orders.image(), "parity", repeated(gestures(), 20_000), deadline_s=0.1)
    await begin(bench.agent, A, 1, work)

    async def over() -> bool:
        await bench.agent.expire()
        return await state(bench.agent, A, 1) is WorkState.ENDED

    await eventually(over)
    assert (await ended(bench.agent, A, 1)).outcome is AttemptOutcome.LAB


@pytest.mark.parametrize(
    ("change", "outcome", "said"),
    [
        ({"procedure": "dance"}, AttemptOutcome.LAB, "there are staging, smoke, acceptance"),
        ({"procedure": "variability"}, AttemptOutcome.LAB, "give labels"),
        ({"workload": "image"}, AttemptOutcome.LAB, "no workload"),
        ({"identity": "emulated local-cortex-m7-1"}, AttemptOutcome.SWAPPED, "this board is 'emulated local-cortex-m4"),
    ],
)
async def test_work_that_cannot_be_done_says_nothing_against_the_firmware(
    bench: Bench, change: dict[str, str], outcome: AttemptOutcome, said: str
) -> None:
    work = bench.orders.work(bench.orders.image())
    changed = {key: work.image if value == "image" else value for key, value in change.items()}
    found = await done(bench.agent, A, 1, work.model_copy(update=changed))
    assert found.outcome is outcome
    assert said in found.said


async def test_work_for_another_kind_of_board_is_not_run(bench: Bench) -> None:
    rigs = emulated_rigs("local", [("cortex-m7", 1)], Emulator.UNICORN, workers := Workers(0))
    agent = PlaceAgent("local", rigs, bench.orders.blobs.get)
    found = await done(agent, "local-cortex-m7-1", 1, bench.orders.work(bench.orders.image()))
    await agent.close()
    workers.close()
    assert found.outcome is AttemptOutcome.LAB
    assert found.said == "the workload is for cortex-m4, this board is a cortex-m7"


async def test_hands_flash_and_talk_to_an_emulated_board(bench: Bench) -> None:
    image = bench.orders.image()
    await bench.agent.grant(Grant(board=A, token=1, ttl_s=600))
    with pytest.raises(RefusedError, match="flash an image first") as refused:
        await bench.agent.touch(Touch(board=A, token=1, write=b"name%"))
    assert refused.value.code == RefusalKind.BAD_REQUEST
    await bench.agent.touch(Touch(board=A, token=1, flash=image, write=b"na"))
    await bench.agent.touch(Touch(board=A, token=1, write=b"me%"))
    assert b"".join(said.data for said in bench.heard) == b"m-name-dut-[edgeloop]\r\nm-ready\r\n"
    pid = bench.pid()
    assert pid is not None
    await bench.agent.grant(Grant(board=A, token=2, ttl_s=600))
    assert has_ended(pid)
    with pytest.raises(RefusedError, match="flash an image first"):
        await bench.agent.touch(Touch(board=A, token=2, write=b"name%"))


def test_processes_die_with_the_service(workshop: Workshop) -> None:
    script = (
        "import asyncio, os\n"
        "from shared.places.workers import Worker\n"
        "async def main():\n"
        "    worker = Worker()\n"
        "    print(await worker.call(os.getpid), flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    file = workshop.folder / "orphans.py"
    file.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, env=environment) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        service.kill()
        service.wait()
        wait_until(lambda: has_ended(pid))
