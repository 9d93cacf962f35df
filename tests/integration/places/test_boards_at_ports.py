"""Boards at ports of a place: real firmware, and everything that goes wrong on a bench, each by its own name."""

import re
import sys
from collections.abc import AsyncIterator, Callable
from shutil import which

import pytest

from shared.boards import image_board
from shared.bus.exchanges import RefusedError
from shared.events import digest_of
from shared.lab.messages import ConsoleOutput, Grant, Progress, Touch, Work
from shared.lab.verdict import AttemptOutcome
from shared.places.agent import PlaceAgent
from shared.places.at_port import PortRig
from shared.places.flashing import IMAGE, FlashProgram
from shared.procedures.staging import read_run
from tests.data.gestures.release import INT8
from tests.integration.device_lab.workshop import flip_a_weight, read_where_nothing_is
from tests.integration.places.bench_board import FLASH_SCRIPT, BenchBoard
from tests.integration.places.gesture_work import BOARD, Orders, begin, done, ended, gestures, repeated
from tests.support import eventually

pytestmark = pytest.mark.skipif(
    which("qemu-system-arm") is None, reason="needs qemu-system-arm: apt-get install qemu-system-arm"
)


MakePlace = Callable[..., PlaceAgent]


@pytest.fixture
async def place(board: BenchBoard, orders: Orders) -> AsyncIterator[MakePlace]:
    """Makes the agent of a place with this board alone."""
    agents: list[PlaceAgent] = []

    def make(*, flashes: bool = False, identity: str = "", heard: list[ConsoleOutput] | None = None) -> PlaceAgent:
        program = FlashProgram([sys.executable, "-c", FLASH_SCRIPT, IMAGE, str(board.flash_port)], board.url)
        rig = PortRig(
            "bench-1",
            image_board(BOARD),
            board.url,
            identity=identity,
            flasher=program if flashes else None,
            back_within_s=2,
        )
        publish = (lambda _output: None) if heard is None else heard.append
        agents.append(PlaceAgent("rack", [rig], orders.blobs.get, publish=publish))
        return agents[-1]

    yield make
    for agent in agents:
        await agent.close()


async def run(agent: PlaceAgent, work: Work, token: int = 1) -> Progress:
    return await done(agent, "bench-1", token, work)


async def test_a_board_that_has_the_firmware_is_staged_and_every_byte_compared(
    place: MakePlace, orders: Orders
) -> None:
    found = await run(place(identity="dut:edgeloop"), orders.work(orders.image()))
    assert found.outcome is AttemptOutcome.PASSED, found.said
    staged = read_run(found.report)
    assert (staged.inputs, staged.mismatches, staged.model_digest) == (6, 0, digest_of(INT8))
    assert staged.stack_bytes > 0
    assert staged.emulator.startswith("edgeloop at socket://")


async def test_a_board_is_flashed_before_it_is_asked_and_its_new_firmware_judged(
    place: MakePlace, board: BenchBoard, orders: Orders
) -> None:
    agent = place(flashes=True)
    wrong = orders.image(flip_a_weight)
    found = await run(agent, orders.work(wrong, "parity"))
    assert (found.outcome, board.flashed) == (AttemptOutcome.FAILED, [orders.blobs.kept[wrong]])
    right = orders.image()
    found = await run(agent, orders.work(right, "parity", identity="dut:edgeloop"), token=2)
    assert found.outcome is AttemptOutcome.PASSED, found.said


async def test_without_a_way_to_flash_other_firmware_is_refused_and_not_blamed(
    place: MakePlace, board: BenchBoard, orders: Orders
) -> None:
    agent = place()
    work = orders.work(orders.image())
    board.back = lambda data: data.replace(digest_of(INT8).encode(), digest_of(b"other").encode())
    found = await run(agent, work)
    assert found.outcome is AttemptOutcome.LAB
    assert "no way to flash this board" in found.said
    await agent.grant(Grant(board="bench-1", token=2, ttl_s=60))
    with pytest.raises(RefusedError, match=r"no way to flash bench-1\. Next: give it `flash`"):
        await agent.touch(Touch(board="bench-1", token=2, flash=work.image))


async def test_a_board_that_hangs_in_the_middle_is_a_hang(place: MakePlace, board: BenchBoard, orders: Orders) -> None:
    board.before = lambda data: board.hang() if b"infer" in data else None
    found = await run(place(), orders.work(orders.image(), "parity"))
    assert found.outcome is AttemptOutcome.HANG, found.said
    assert "silent since" in found.said


async def test_a_board_that_resets_by_itself_is_a_reset_loop(
    place: MakePlace, board: BenchBoard, orders: Orders
) -> None:
    board.before = lambda data: board.reset() if b"infer" in data else None
    found = await run(place(), orders.work(orders.image(), "parity"))
    assert found.outcome is AttemptOutcome.RESET_LOOP, found.said
    assert "by itself" in found.said


async def test_a_board_that_answers_garbage_is_garbage(place: MakePlace, board: BenchBoard, orders: Orders) -> None:
    board.back = lambda data: bytes(byte ^ 0x80 for byte in data)
    found = await run(place(), orders.work(orders.image(), "parity"))
    assert found.outcome is AttemptOutcome.GARBAGE, found.said


async def test_bytes_that_change_on_the_way_are_garbage_and_no_mismatch(
    place: MakePlace, board: BenchBoard, orders: Orders
) -> None:
    board.back = lambda data: re.sub(rb"m-buffer-..", b"m-buffer-7f", data)
    found = await run(place(), orders.work(orders.image(), "parity"))
    assert found.outcome is AttemptOutcome.GARBAGE, found.said


async def test_firmware_that_crashes_on_a_board_does_not_answer_any_more(place: MakePlace, orders: Orders) -> None:
    found = await run(place(flashes=True), orders.work(orders.image(read_where_nothing_is), "parity"))
    assert found.outcome in (AttemptOutcome.HANG, AttemptOutcome.GARBAGE), found.said


async def test_a_board_that_is_pulled_out_disappears(place: MakePlace, board: BenchBoard, orders: Orders) -> None:
    board.before = lambda data: board.pull_out() if b"infer" in data else None
    found = await run(place(), orders.work(orders.image(), "parity"))
    assert found.outcome is AttemptOutcome.DISAPPEARED, found.said
    again = await run(place(), orders.work(orders.image(), "parity"))
    assert again.outcome is AttemptOutcome.DISAPPEARED, again.said


async def test_a_board_that_is_pulled_out_while_it_is_flashed_disappears(
    place: MakePlace, board: BenchBoard, orders: Orders
) -> None:
    board.pulled_while_flashing = True
    found = await run(place(flashes=True), orders.work(orders.image()))
    assert found.outcome is AttemptOutcome.DISAPPEARED, found.said
    assert "went away while the board was flashed" in found.said


@pytest.mark.parametrize("said_by", ["the work", "the place"])
async def test_another_board_than_is_meant_is_not_flashed(
    place: MakePlace, board: BenchBoard, orders: Orders, said_by: str
) -> None:
    board.back = lambda data: data.replace(b"dut-[edgeloop]", b"dut-[another]")
    agent = place(flashes=True, identity="dut:edgeloop" if said_by == "the place" else "")
    work = orders.work(orders.image(), identity="dut:edgeloop" if said_by == "the work" else "")
    found = await run(agent, work)
    assert found.outcome is AttemptOutcome.SWAPPED, found.said
    assert "found 'dut:another', allowed is 'dut:edgeloop'; nothing was written" in found.said
    assert not board.flashed
    assert b"db " not in board.arrived


async def test_a_newer_grant_cuts_work_off_and_nothing_of_it_arrives_afterwards(
    place: MakePlace, board: BenchBoard, orders: Orders
) -> None:
    agent = place()
    await begin(agent, "bench-1", 1, orders.work(orders.image(), "parity", repeated(gestures(), 500)))
    await eventually(lambda: board.arrived.count(b"infer") > 2)
    await agent.grant(Grant(board="bench-1", token=2, ttl_s=60))
    await agent.touch(Touch(board="bench-1", token=2, write=b"help%"))
    await eventually(lambda: b"help%" in board.arrived)
    assert board.arrived.endswith(b"help%")
    with pytest.raises(RefusedError, match="found token 1, allowed is 2"):
        await ended(agent, "bench-1", 1)


async def test_hands_type_and_hear_what_the_board_says(place: MakePlace) -> None:
    heard: list[ConsoleOutput] = []
    agent = place(heard=heard)
    await agent.grant(Grant(board="bench-1", token=1, ttl_s=60))
    await agent.touch(Touch(board="bench-1", token=1, write=b"na"))
    await agent.touch(Touch(board="bench-1", token=1, write=b"me%"))

    def said() -> bytes:
        return b"".join(output.data for output in heard)

    await eventually(lambda: b"m-name-dut-[edgeloop]" in said())
    at = 0
    for output in heard:
        assert (output.token, output.offset) == (1, at)
        at += len(output.data)


async def test_a_free_board_is_asked_who_it_is(place: MakePlace, board: BenchBoard) -> None:
    agent = place()
    await agent.look_around()
    assert [offered.identity for offered in (await agent.announced()).boards] == ["dut:edgeloop"]
    asked = bytes(board.arrived)
    await agent.look_around()
    assert board.arrived == asked
