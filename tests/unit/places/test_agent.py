"""The agent of a place: one holder at a time, and an end to their work that comes for certain."""

import asyncio
from collections.abc import Awaitable
from functools import partial

import pytest

from shared.bus.exchanges import RefusedError
from shared.events import digest_of
from shared.lab.messages import Begin, Grant, RefusalKind, Shut, Touch, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.agent import PlaceAgent
from shared.places.rig import Ended, NotAbleError, RigError
from tests.support import eventually
from tests.unit.places.place_world import IMAGE, PaperBoard, a_place, fetched, settled, work

PASSED = Ended(passed=True, said="all well", report=b"{}")


async def refused(kind: RefusalKind, said: str, doing: Awaitable[object]) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        await doing
    assert caught.value.code == kind


async def test_work_is_begun_once_and_its_end_is_told() -> None:
    place = a_place()
    await place.grant(1)
    assert (await place.progress(1)).state is WorkState.NONE
    await place.begin(1)
    await place.begin(1)
    assert (await place.progress(1)).state is WorkState.RUNNING
    assert place.boards["a"].reached == [IMAGE]
    place.boards["a"].finish(PASSED)
    await settled()
    ended = await place.progress(1)
    assert (ended.state, ended.outcome, ended.said, ended.report) == (
        WorkState.ENDED,
        AttemptOutcome.PASSED,
        "all well",
        b"{}",
    )
    await place.begin(1)
    assert place.boards["a"].reached == [IMAGE]


@pytest.mark.parametrize(
    ("answer", "outcome", "said"),
    [
        (Ended(passed=False, said="parity", report=b"{}"), AttemptOutcome.FAILED, "parity"),
        (RigError(AttemptOutcome.SWAPPED, "another serial number"), AttemptOutcome.SWAPPED, "another serial number"),
        (NotAbleError("no way to flash"), AttemptOutcome.LAB, "NotAbleError: no way to flash"),
        (ZeroDivisionError("bug"), AttemptOutcome.LAB, "ZeroDivisionError: bug"),
    ],
)
async def test_what_came_of_it_has_a_type(answer: Ended | Exception, outcome: AttemptOutcome, said: str) -> None:
    place = a_place()
    await place.grant(1)
    await place.begin(1)
    place.boards["a"].finish(answer)
    await settled()
    ended = await place.progress(1)
    assert (ended.outcome, ended.said) == (outcome, said)


async def test_an_image_that_is_nowhere_is_the_labs_trouble() -> None:
    place = a_place()
    await place.grant(1)
    lost = work().model_copy(update={"image": digest_of(b"lost")})
    await place.agent.begin(Begin(board="a", token=1, work=lost))
    await settled()
    ended = await place.progress(1)
    assert ended.outcome is AttemptOutcome.LAB
    assert "no object" in ended.said


async def test_a_newer_grant_ends_the_older_work_before_it_is_answered() -> None:
    place = a_place()
    await place.grant(1)
    await place.begin(1)
    await place.grant(2)
    assert place.boards["a"].stops == 1
    await place.write(2, b"x")
    assert place.boards["a"].reached == [IMAGE, b"x"]
    for stale in (place.write(1, b"late"), place.begin(1), place.grant(1, 99), place.progress(1)):
        await refused(RefusalKind.STALE_TOKEN, "found token 1, allowed is 2", stale)
    await settled()
    assert place.boards["a"].reached == [IMAGE, b"x"]


async def test_a_write_is_cut_off_by_a_newer_grant() -> None:
    place = a_place()
    await place.grant(1)
    writing = asyncio.create_task(place.write(1, b"a long line"))
    await place.boards["a"].begun.wait()
    await place.grant(2)
    reached = list(place.boards["a"].reached)
    await refused(RefusalKind.STALE_TOKEN, "ended in the middle of it", writing)
    assert 0 < len(reached) < len(b"a long line")
    assert place.boards["a"].reached == reached


async def test_of_two_grants_that_race_the_newer_one_holds_the_board() -> None:
    for first, second in ((2, 3), (3, 2)):
        place = a_place()
        await place.grant(1)
        await place.begin(1)
        answers = await asyncio.gather(place.grant(first), place.grant(second), return_exceptions=True)
        by_token = dict(zip((first, second), answers, strict=True))
        assert by_token[3] is None
        assert isinstance(by_token[2], RefusedError)
        await place.write(3, b"x")
        await refused(RefusalKind.STALE_TOKEN, "found token 2, allowed is 3", place.write(2, b"y"))
        assert place.boards["a"].reached == [IMAGE, b"x"]


async def test_the_end_of_a_lease_ends_the_work_and_renewing_in_time_does_not() -> None:
    place = a_place()
    await place.grant(1, ttl_s=10)
    await place.begin(1)
    place.clock.now_s += 9
    await place.grant(1, ttl_s=10)
    place.clock.now_s += 9
    assert place.agent.next_deadline_s() == place.clock.now_s + 1
    await place.agent.expire()
    assert (await place.progress(1)).state is WorkState.RUNNING
    place.clock.now_s += 1
    await refused(RefusalKind.STALE_TOKEN, "ended 0.0 s ago", place.write(1, b"late"))
    await place.agent.expire()
    assert (await place.progress(1)).outcome is AttemptOutcome.LEASE_LOST
    assert place.boards["a"].stops == 1
    assert place.agent.next_deadline_s() == float("inf")


async def test_a_renewal_that_came_late_lets_the_holder_in_again_and_the_work_stays_ended() -> None:
    place = a_place()
    await place.grant(1, ttl_s=10)
    await place.begin(1)
    place.clock.now_s += 11
    await place.agent.expire()
    await place.grant(1)
    await place.begin(1)
    assert (await place.progress(1)).outcome is AttemptOutcome.LEASE_LOST
    await place.write(1, b"x")
    assert place.boards["a"].reached == [IMAGE, b"x"]


async def test_work_that_takes_too_long_ends_as_the_labs_trouble_and_the_lease_stays() -> None:
    place = a_place()
    await place.grant(1, ttl_s=100)
    await place.begin(1, deadline_s=20)
    place.clock.now_s += 20
    await place.agent.expire()
    ended = await place.progress(1)
    assert ended.outcome is AttemptOutcome.LAB
    assert "smoke was not through within 20 s" in ended.said
    await place.write(1, b"x")


async def test_what_was_given_back_is_not_opened_again_by_messages_that_came_late() -> None:
    place = a_place()
    await place.grant(2)
    await place.begin(2)
    await place.agent.shut(Shut(board="a", token=2))
    assert (await place.progress(2)).outcome is AttemptOutcome.LEASE_LOST
    await refused(RefusalKind.STALE_TOKEN, "when it was given back", place.grant(2))
    await place.grant(3)
    await place.agent.shut(Shut(board="a", token=2))
    await place.write(3, b"x")
    await place.agent.shut(Shut(board="a", token=5))
    await refused(RefusalKind.STALE_TOKEN, "when it was given back", place.grant(5))
    await refused(RefusalKind.STALE_TOKEN, "found token 4, allowed is 5", place.grant(4))


async def test_an_agent_that_was_started_anew_admits_nobody_and_has_another_epoch() -> None:
    before, after = a_place(), a_place()
    assert before.agent.epoch != after.agent.epoch
    await before.grant(4)
    await refused(RefusalKind.STALE_TOKEN, "allowed is none", after.write(4, b"x"))
    await refused(RefusalKind.STALE_TOKEN, "allowed is none", after.progress(4))
    await after.grant(4)
    await after.write(4, b"x")


async def test_a_board_that_cannot_be_let_go_of_is_given_to_nobody() -> None:
    place = a_place()
    await place.grant(1)
    await place.begin(1)
    place.boards["a"].sticks = True
    with pytest.raises(OSError, match="does not close"):
        await place.grant(2)
    await refused(RefusalKind.STALE_TOKEN, "found token 1", place.write(1, b"late"))
    await refused(RefusalKind.CONFLICT, "has not ended. Next: grant it again", place.write(2, b"early"))
    place.clock.now_s += 20
    assert not await place.agent.expire()
    place.boards["a"].sticks = False
    assert await place.agent.expire()
    await place.grant(2, ttl_s=40)
    await place.write(2, b"x")
    assert place.boards["a"].reached == [IMAGE, b"x"]


async def test_a_board_at_work_is_not_touched_and_a_console_is_closed_for_work() -> None:
    place = a_place()
    await place.grant(1)
    await place.write(1, b"hello")
    await place.begin(1)
    assert place.boards["a"].stops == 1
    await refused(RefusalKind.CONFLICT, "the work of token 1 itself is running", place.write(1, b"x"))
    other = Begin(board="a", token=1, work=work(procedure="parity"))
    await refused(RefusalKind.CONFLICT, "already does other work. Next: ask for a new lease", place.agent.begin(other))


async def test_hands_flash_reset_and_write_in_this_order() -> None:
    place = a_place()
    await place.grant(1)
    await place.agent.touch(Touch(board="a", token=1, write=b"x", reset=True, flash=digest_of(IMAGE)))
    assert place.boards["a"].reached == [IMAGE, b"RESET", b"x"]
    lost = Touch(board="a", token=1, flash=digest_of(b"lost"))
    await refused(RefusalKind.UNKNOWN, "no object", place.agent.touch(lost))


async def test_what_a_board_says_is_numbered_from_the_grant_on() -> None:
    place = a_place()
    await place.grant(1)
    await place.write(1, b"12")
    await place.write(1, b"3")
    await place.grant(2)
    await place.write(2, b"")
    assert [(said.token, said.offset, said.data) for said in place.heard] == [
        (1, 0, b"echo 12"),
        (1, 7, b"echo 3"),
        (2, 0, b"echo "),
    ]


async def test_only_boards_that_nobody_holds_are_asked_who_they_are() -> None:
    place = a_place("a", "b")
    await place.grant(1, board="a")
    await place.agent.look_around()
    said = await place.agent.announced()
    assert (said.place, said.epoch) == ("rack-1", place.agent.epoch)
    assert {board.name: board.identity for board in said.boards} == {"a": "seen 0", "b": "seen 1"}


async def test_a_grant_does_not_wait_until_a_board_has_said_who_it_is() -> None:
    place = a_place()
    place.boards["a"].answers_late = True
    looking = asyncio.create_task(place.agent.look_around())
    await settled()
    await place.grant(1)
    await looking
    assert (place.boards["a"].looks, place.boards["a"].stops) == (1, 1)
    await place.write(1, b"x")


async def test_a_board_that_is_not_there_is_refused_by_name() -> None:
    place = a_place("a", "b")
    said = "no board 'c' at rack-1; there are a, b"
    await refused(RefusalKind.UNKNOWN, said, place.agent.grant(Grant(board="c", token=1, ttl_s=1)))


async def test_deadlines_are_kept_by_the_agent_itself() -> None:
    board = PaperBoard()
    agent = PlaceAgent("rack-1", [board], fetched)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(agent.keep_deadlines())
        for token in (1, 2):
            await agent.grant(Grant(board="a", token=token, ttl_s=0.5))
            await agent.touch(Touch(board="a", token=token, write=b"x"))
            await eventually(partial(board.stopped, token))
        keeping.cancel()


async def test_an_agent_that_leaves_lets_go_of_every_board() -> None:
    place = a_place("a", "b")
    await place.grant(1, board="b")
    await place.begin(1, board="b")
    await place.agent.close()
    assert place.boards["b"].stops == 1
    assert await place.outcome(1, board="b") is AttemptOutcome.LAB
    await refused(RefusalKind.STALE_TOKEN, "when it was given back", place.write(1, b"x", board="b"))
