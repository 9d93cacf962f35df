"""A place on a real bus: granted, touched, heard, killed and started again."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer, connect
from shared.bus.exchanges import RefusedError, ask
from shared.lab.messages import (
    ANNOUNCEMENTS,
    Announced,
    Begin,
    ConsoleOutput,
    Done,
    Grant,
    RefusalKind,
    Touch,
    WorkState,
)
from shared.lab.verdict import AttemptOutcome
from shared.places.rig import Ended
from shared.places.serving import serve_place
from tests.integration.places.asking import ROOT, done, progress
from tests.support import eventually
from tests.unit.places.place_world import PaperBoard, fetched, work


@asynccontextmanager
async def served(nc: Client, boards: Iterable[PaperBoard]) -> AsyncIterator[None]:
    serving = asyncio.create_task(serve_place(nc, "rack-1", boards, fetched, announce_s=0.05))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def test_a_place_says_that_it_lives_and_has_another_epoch_after_a_restart(nc: Client) -> None:
    heard = await nc.subscribe(ANNOUNCEMENTS)
    epochs = []
    for _ in range(2):
        async with served(nc, [PaperBoard("a"), PaperBoard("b")]):
            said = Announced.model_validate_json((await heard.next_msg(timeout=30)).data)
        assert [board.name for board in said.boards] == ["a", "b"]
        assert said.place == "rack-1"
        epochs.append(said.epoch)
        while heard.pending_msgs:
            await heard.next_msg()
    assert len(set(epochs)) == 2


async def test_work_is_granted_begun_and_told_over_the_bus(nc: Client) -> None:
    board = PaperBoard("a")
    async with served(nc, [board]):
        await done(nc, Grant(board="a", token=1, ttl_s=60))
        await done(nc, Begin(board="a", token=1, work=work()))
        await done(nc, Begin(board="a", token=1, work=work()))
        assert (await progress(nc, "a", 1)).state is not WorkState.NONE
        board.finish(Ended(passed=True, said="", report=b"\x00\xff"))

        async def ended() -> bool:
            return (await progress(nc, "a", 1)).state is WorkState.ENDED

        await eventually(ended)
        found = await progress(nc, "a", 1)
        assert (found.outcome, found.report) == (AttemptOutcome.PASSED, b"\x00\xff")


async def test_a_holder_with_an_old_token_is_refused_by_name_and_nothing_of_it_arrives(nc: Client) -> None:
    board = PaperBoard("a")
    async with served(nc, [board]):
        await done(nc, Grant(board="a", token=1, ttl_s=60))
        await done(nc, Touch(board="a", token=1, write=b"1"))
        await done(nc, Grant(board="a", token=2, ttl_s=60))
        with pytest.raises(RefusedError, match=r"found token 1, allowed is 2\. Next: ask for a new lease") as refused:
            await ask(nc, ROOT, Touch(board="a", token=1, write=b"late"), Done)
        assert refused.value.code == RefusalKind.STALE_TOKEN
        await done(nc, Touch(board="a", token=2, write=b"2"))
    assert board.reached == [b"1", b"2"]


async def test_what_a_held_board_says_is_published_in_pieces_that_the_bus_carries(nc: Client) -> None:
    heard = await nc.subscribe(f"{ROOT}.console.a")
    async with served(nc, [PaperBoard("a")]):
        await done(nc, Grant(board="a", token=1, ttl_s=60))
        for data in (b"x" * 100_000, b"y"):
            await done(nc, Touch(board="a", token=1, write=data))
        said = b""
        while len(said) < 100_000 + 1 + 2 * len(b"echo "):
            output = ConsoleOutput.model_validate_json((await heard.next_msg(timeout=30)).data)
            assert (output.board, output.token, output.offset) == ("a", 1, len(said))
            said += output.data
    assert said == b"echo " + b"x" * 100_000 + b"echo y"


async def test_a_place_that_is_killed_lets_go_and_its_successor_admits_nobody(nc: Client) -> None:
    board = PaperBoard("a")
    async with served(nc, [board]):
        await done(nc, Grant(board="a", token=1, ttl_s=60))
        await done(nc, Begin(board="a", token=1, work=work()))
        await eventually(lambda: board.reached)
    assert board.stops == 1
    async with served(nc, [board]):
        await done(nc, Grant(board="a", token=2, ttl_s=60))
        with pytest.raises(RefusedError, match="found token 1, allowed is 2"):
            await progress(nc, "a", 1)


async def test_a_place_outlives_its_bus_and_goes_on_with_its_fence(nats_server: EmbeddedServer) -> None:
    nc = await connect(nats_server.url, name="test")
    try:
        async with served(nc, [PaperBoard("a")]):
            await done(nc, Grant(board="a", token=7, ttl_s=300))
            nats_server.stop()
            nats_server.start()
            await done(nc, Touch(board="a", token=7, write=b"x"))
            with pytest.raises(RefusedError, match="found token 6, allowed is 7"):
                await ask(nc, ROOT, Touch(board="a", token=6, write=b"x"), Done)
    finally:
        await nc.close()
