"""A board of a labgrid place under our fence: real firmware, and a client that prints what labgrid's prints."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which
from urllib.parse import urlsplit

import pytest

from device_gateway.config import LabBoardEntry
from device_gateway.lab import rig_of
from shared.bus.exchanges import RefusedError
from shared.lab.messages import Grant, Shut, Touch, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.agent import PlaceAgent
from tests.integration.places.bench_board import BenchBoard
from tests.integration.places.gesture_work import BOARD, Orders, begin, done, ended, gestures, repeated, state
from tests.labgrid_client import install_client, port
from tests.support import eventually

pytestmark = pytest.mark.skipif(
    which("qemu-system-arm") is None, reason="needs qemu-system-arm: apt-get install qemu-system-arm"
)


@pytest.fixture
def labgrid(board: BenchBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a client whose place shares the board; `holder` in it says who has the place."""
    folder = tmp_path / "labgrid"
    folder.mkdir()
    url = urlsplit(board.url)
    install_client(folder, port(protocol="raw", host=url.hostname or "", number=url.port or 0))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.fixture
async def agent(labgrid: Path, orders: Orders) -> AsyncIterator[PlaceAgent]:
    entry = LabBoardEntry(name="bench-1", board=BOARD, port="labgrid:board1")
    agent = PlaceAgent("rack", [rig_of(entry)], orders.blobs.get)
    yield agent
    await agent.close()
    assert not (labgrid / "holder").exists()


async def test_the_place_is_borrowed_for_the_work_and_given_back_with_the_lease(
    agent: PlaceAgent, labgrid: Path, orders: Orders
) -> None:
    await agent.announced()
    assert not (labgrid / "holder").exists()
    found = await done(agent, "bench-1", 1, orders.work(orders.image()))
    assert found.outcome is AttemptOutcome.PASSED, found.said
    assert (labgrid / "holder").read_text() == "here/us"
    assert (await agent.announced()).boards[0].identity == "dut:edgeloop"
    await agent.shut(Shut(board="bench-1", token=1))
    assert not (labgrid / "holder").exists()


async def test_a_place_that_somebody_has_is_the_labs_trouble_until_it_is_free(
    agent: PlaceAgent, labgrid: Path, orders: Orders
) -> None:
    (labgrid / "holder").write_text("desk/ada")
    found = await done(agent, "bench-1", 1, orders.work(orders.image()))
    assert (found.outcome, "already acquired by desk/ada" in found.said) == (AttemptOutcome.LAB, True), found.said
    await agent.grant(Grant(board="bench-1", token=2, ttl_s=60))
    with pytest.raises(RefusedError, match="is taken"):
        await agent.touch(Touch(board="bench-1", token=2, write=b"name%"))
    (labgrid / "holder").unlink()
    await agent.touch(Touch(board="bench-1", token=2, write=b"name%"))
    assert (labgrid / "holder").read_text() == "here/us"


async def test_what_ran_while_somebody_else_took_the_place_counts_for_nothing(
    agent: PlaceAgent, labgrid: Path, orders: Orders
) -> None:
    await agent.grant(Grant(board="bench-1", token=1, ttl_s=60))
    await agent.touch(Touch(board="bench-1", token=1, write=b"name%"))
    await agent.shut(Shut(board="bench-1", token=1))
    await begin(agent, "bench-1", 2, orders.work(orders.image(), "parity", repeated(gestures(), 4)))

    async def is_under_way() -> bool:
        return await state(agent, "bench-1", 2) is WorkState.RUNNING

    await eventually(is_under_way)
    (labgrid / "holder").write_text("desk/ada")
    found = await ended(agent, "bench-1", 2)
    assert (found.outcome, "no longer ours" in found.said) == (AttemptOutcome.LAB, True), found.said
    await agent.shut(Shut(board="bench-1", token=2))
    (labgrid / "holder").unlink()
