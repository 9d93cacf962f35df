"""The desk at work: jobs come in, boards are given, places answer or do not, jobs end once."""

from collections.abc import AsyncIterator

import pytest

from services.device_lab_scheduler.domain.rules import Rules
from shared.bus.exchanges import RefusedError
from shared.events.lab import Health, JobKind, LabBoardHealthChanged, LabJobEnded, VerdictKind
from shared.interop.signed_results import read_result
from shared.lab.messages import (
    AskHistory,
    AskJobs,
    Cancel,
    Grant,
    HealthAction,
    JobState,
    RefusalKind,
    Release,
    Renew,
    SetHealth,
    Touch,
)
from shared.lab.verdict import AttemptOutcome
from shared.places.rig import RigError
from tests.unit.device_lab.desk_world import FAILED, PASSED, POLICY, RULES, WITH_CANARIES, DeskWorld
from tests.unit.places.place_world import work


@pytest.fixture
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[DeskWorld]:
    rules, boards = getattr(request, "param", (RULES, ("p-1", "q-1", "q-2")))
    world = DeskWorld(rules, boards)
    await world.steps(2)
    yield world
    await world.close()


one_board = pytest.mark.parametrize("lab", [(RULES, ("p-1",))], indirect=True)
with_canary = pytest.mark.parametrize("lab", [(WITH_CANARIES, ("p-1",))], indirect=True)


async def ended(lab: DeskWorld, name: str) -> VerdictKind | None:
    view = await lab.job(name)
    assert view.state is JobState.ENDED, view
    return view.verdict


@one_board
async def test_a_program_s_job_is_begun_renewed_ended_and_told_once(lab: DeskWorld) -> None:
    await lab.submit("j", limit_s=60)
    await lab.steps()
    view = await lab.job("j")
    assert (view.state, [held.board for held in view.held]) == (JobState.RUNNING, ["p-1"])
    for _ in range(5):  # longer than a lease lasts unless renewed
        await lab.pass_time(5)
        await lab.steps()
    assert (await lab.job("j")).state is JobState.RUNNING
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert await ended(lab, "j") is VerdictKind.PASSED
    (said,) = lab.said(LabJobEnded)
    assert isinstance(said, LabJobEnded)
    assert (said.job, said.verdict, said.boards, said.attempts, said.waited_s, said.ran_s) == (
        "j",
        VerdictKind.PASSED,
        ("p-1",),
        1,
        0.0,
        26.0,
    )
    assert (await lab.board("p-1")).job is None
    assert not lab.repeated


@one_board
async def test_its_result_is_a_document_of_the_history(lab: DeskWorld) -> None:
    await lab.submit("j")
    await lab.steps()
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    (document,) = (await lab.desk.history(AskHistory(project="gait", board="cortex-m4"))).results
    result = read_result(document.encode(), ()).result
    assert (result.job, result.verdict, result.instructions, result.board) == (
        "j",
        VerdictKind.PASSED,
        1000,
        "cortex-m4",
    )
    assert (await lab.desk.history(AskHistory(project="other"))).results == ()


async def test_the_same_id_is_the_same_job_and_other_work_under_it_is_refused(lab: DeskWorld) -> None:
    await lab.submit("j")
    await lab.submit("j")
    assert (await lab.desk.jobs(AskJobs())).waiting == 1
    with pytest.raises(RefusedError, match="asks for something else") as caught:
        await lab.submit("j", priority=1)
    assert caught.value.code == RefusalKind.CONFLICT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"demands": ("ram>>1",)}, "requirement, condition 1"),
        ({"demands": ("any", "any")}, "1 pieces of work for 2 boards"),
    ],
)
async def test_an_order_that_cannot_be_read_is_refused(lab: DeskWorld, changes: dict[str, object], said: str) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        await lab.submit("j", **changes)
    assert caught.value.code == RefusalKind.BAD_REQUEST
    assert (await lab.desk.jobs(AskJobs(ended=True))).jobs == ()


async def test_a_failed_physical_board_is_confirmed_on_another_one(lab: DeskWorld) -> None:
    await lab.submit("j")
    await lab.steps()
    (first,) = (await lab.job("j")).held
    lab.boards[first.board].finish(FAILED)
    await lab.pass_time(1)
    await lab.steps()
    view = await lab.job("j")
    (second,) = view.held
    assert second.board != first.board
    assert [attempt.outcome for attempt in view.attempts] == [AttemptOutcome.FAILED]
    lab.boards[second.board].finish(FAILED)
    await lab.pass_time(1)
    await lab.steps()
    assert await ended(lab, "j") is VerdictKind.FAILED
    assert (await lab.job("j")).reason == f"{first.board}: failed, parity; {second.board}: failed, parity"


@one_board
async def test_where_there_is_no_other_board_the_same_one_is_tried_again(lab: DeskWorld) -> None:
    await lab.submit("j")
    await lab.steps()
    lab.boards["p-1"].finish(RigError(AttemptOutcome.LAB, "the emulator died"))
    await lab.pass_time(1)
    await lab.steps()
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert await ended(lab, "j") is VerdictKind.PASSED


async def test_all_boards_of_a_job_are_given_at_once_and_judged_together(lab: DeskWorld) -> None:
    await lab.submit("j", demands=("place=p", "place=q"), work=(work(50), work(40)))
    await lab.steps()
    held = [lease.board for lease in (await lab.job("j")).held]
    assert [name[0] for name in held] == ["p", "q"]
    lab.boards[held[0]].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert (await lab.job("j")).state is JobState.RUNNING
    lab.boards[held[1]].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert await ended(lab, "j") is VerdictKind.PASSED
    assert len((await lab.desk.history(AskHistory())).results) == 2


@one_board
async def test_a_person_holds_a_board_as_long_as_they_renew_and_gives_it_back(lab: DeskWorld) -> None:
    await lab.reserve("r")
    await lab.steps()
    (held,) = (await lab.job("r")).held
    for _ in range(3):
        await lab.pass_time(6)
        await lab.steps(1)
        renewed = await lab.desk.renew(Renew(board=held.board, token=held.token))
        assert renewed.left_s == POLICY.ttl_s
    await lab.line.agents["p"].touch(Touch(board="p-1", token=held.token, write=b"hi"))
    await lab.desk.release(Release(board=held.board, token=held.token))
    await lab.desk.release(Release(board=held.board, token=held.token))
    await lab.steps()
    assert await ended(lab, "r") is VerdictKind.PASSED
    with pytest.raises(RefusedError):
        await lab.line.agents["p"].touch(Touch(board="p-1", token=held.token, write=b"late"))
    with pytest.raises(RefusedError, match="nobody holds it"):
        await lab.desk.renew(Renew(board=held.board, token=held.token))


@one_board
async def test_a_person_who_vanishes_loses_the_board_and_leaves_it_suspect(lab: DeskWorld) -> None:
    await lab.reserve("r")
    await lab.steps()
    await lab.pass_time(POLICY.ttl_s + POLICY.grace_s)
    await lab.stepper.step()
    assert await ended(lab, "r") is VerdictKind.INFRASTRUCTURE
    assert "nobody renewed it in time" in (await lab.job("r")).reason
    changes = [said.health for said in lab.said(LabBoardHealthChanged) if isinstance(said, LabBoardHealthChanged)]
    assert changes[-2:] == [Health.SUSPECT, Health.GOOD]  # without a canary it is trusted again


@with_canary
async def test_a_new_board_runs_the_canary_first(lab: DeskWorld) -> None:
    await lab.submit("j")
    await lab.steps()
    assert (await lab.board("p-1")).health is Health.PROBATION
    assert (await lab.job("j")).waits_for == "no live board can serve it: 1 probation"
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert (await lab.board("p-1")).health is Health.GOOD
    assert (await lab.job("j")).state is JobState.RUNNING


@with_canary
async def test_what_hung_on_a_board_that_passes_the_canary_was_the_firmware(lab: DeskWorld) -> None:
    for outcome in (PASSED, RigError(AttemptOutcome.HANG, "no answer")):
        await lab.submit("j")
        lab.boards["p-1"].finish(outcome)
        await lab.pass_time(1)
        await lab.steps()
    view = await lab.job("j")
    assert view.waits_for == "the canary on p-1: was it the board or the firmware?"
    assert (await lab.board("p-1")).health is Health.SUSPECT
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    (attempt,) = (await lab.job("j")).attempts
    assert (attempt.outcome, attempt.canary_passed) == (AttemptOutcome.HANG, True)


@with_canary
async def test_a_board_that_fails_the_canary_is_quarantined_and_brought_back_by_hand(lab: DeskWorld) -> None:
    lab.boards["p-1"].finish(FAILED)
    await lab.pass_time(1)
    await lab.steps()
    board = await lab.board("p-1")
    assert (board.health, board.reason) == (Health.QUARANTINED, "canary: parity")
    brought = await lab.desk.set_health(SetHealth(board="p-1", action=HealthAction.BRING_BACK, reason="new cable"))
    assert (brought.health, brought.reason) == (Health.PROBATION, "new cable")


@with_canary
async def test_a_canary_that_the_lab_could_not_run_says_nothing_and_is_tried_later(lab: DeskWorld) -> None:
    lab.boards["p-1"].finish(RigError(AttemptOutcome.LAB, "no worker"))
    await lab.pass_time(1)
    await lab.steps()
    board = await lab.board("p-1")
    assert (board.health, board.job) == (Health.PROBATION, None)
    await lab.pass_time(lab.rules.canary_retry_s - 2)
    await lab.pass_time(2)
    await lab.steps()
    assert (await lab.board("p-1")).job == "canary-p-1-2"


@one_board
async def test_a_new_agent_ends_work_as_the_labs_trouble_and_lets_a_person_in_again(lab: DeskWorld) -> None:
    await lab.reserve("r")
    await lab.steps()
    (held,) = (await lab.job("r")).held
    lab.start_agent("p")
    await lab.announce()
    assert (await lab.job("r")).held == ()  # whom the new agent does not know is told nothing
    await lab.steps()
    (again,) = (await lab.job("r")).held
    assert again.token == held.token
    await lab.line.agents["p"].touch(Touch(board="p-1", token=held.token, write=b"hi"))
    await lab.desk.release(Release(board="p-1", token=held.token))
    await lab.submit("j")
    await lab.steps()
    lab.start_agent("p")
    await lab.steps()
    view = await lab.job("j")
    assert [(attempt.outcome, attempt.said) for attempt in view.attempts] == [
        (AttemptOutcome.LAB, "the agent of p was started anew")
    ]


async def test_a_dead_place_neither_gets_jobs_nor_holds_up_others(lab: DeskWorld) -> None:
    lab.line.down.add("p")
    await lab.pass_time(POLICY.place_ttl_s + 1)
    await lab.submit("mine", demands=("place=p",))
    await lab.submit("other", demands=("place=q",))
    await lab.steps()
    mine = await lab.job("mine")
    assert (mine.state, mine.bound_s) == (JobState.WAITING, None)
    assert mine.waits_for == "no live board can serve it: 1 at p, which is not heard"
    assert (await lab.job("other")).state is JobState.RUNNING


@one_board
async def test_lost_and_repeated_messages_change_nothing(lab: DeskWorld) -> None:
    lab.line.lose_requests, lab.line.lose_answers, lab.line.repeats = 1, 2, 3
    await lab.submit("j")
    for _ in range(8):
        await lab.steps(1)
        await lab.pass_time(1.1)
    assert lab.boards["p-1"].reached == [b"image"]
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert await ended(lab, "j") is VerdictKind.PASSED
    assert len((await lab.job("j")).attempts) == 1


@one_board
async def test_a_desk_that_was_killed_goes_on_where_the_books_are(lab: DeskWorld) -> None:
    await lab.submit("j")
    await lab.stepper.step()
    lab.start_desk()
    await lab.pass_time(11)  # until the former leader's time is over
    await lab.steps()
    lab.boards["p-1"].finish(PASSED)
    await lab.pass_time(1)
    await lab.steps()
    assert await ended(lab, "j") is VerdictKind.PASSED
    assert len(lab.said(LabJobEnded)) == 1


async def test_of_two_desks_one_acts_and_both_answer(lab: DeskWorld) -> None:
    first, leader = lab.desk, lab.stepper
    lab.start_desk()
    await lab.announce()
    assert not await lab.stepper.step()
    await lab.submit("j")
    await first.announced(await lab.line.agents["p"].announced())
    assert await leader.step()
    assert (await lab.job("j")).state is JobState.RUNNING


async def test_a_benchmark_leaves_for_others_and_waits_again_with_its_old_age(lab: DeskWorld) -> None:
    for number in range(3):
        await lab.submit(f"b{number}", kind=JobKind.BENCHMARK)
    await lab.steps()
    for board in lab.boards.values():
        assert board.reached == [b"image"]
    await lab.pass_time(1)
    await lab.steps()  # past flashing
    await lab.submit("j")
    await lab.steps(6)
    assert (await lab.job("j")).state is JobState.RUNNING
    states = [(await lab.job(f"b{number}")).state for number in range(3)]
    assert sorted(states) == [JobState.RUNNING, JobState.RUNNING, JobState.WAITING]


@one_board
async def test_a_benchmark_that_has_ended_is_not_made_to_leave_again(lab: DeskWorld) -> None:
    await lab.submit("b", kind=JobKind.BENCHMARK)
    await lab.steps()
    await lab.pass_time(1)
    await lab.steps()
    lab.line.down.add("p")  # its fence cannot be told, so that the board stays held
    await lab.desk.cancel(Cancel(id="b"))
    await lab.submit("j")
    await lab.stepper.step()
    assert (await lab.job("j")).state is JobState.WAITING
    assert (await lab.job("b")).state is JobState.ENDED


async def test_cancelling_ends_a_job_wherever_it_is(lab: DeskWorld) -> None:
    await lab.submit("runs", demands=("place=p",))
    await lab.submit("waits", demands=("place=p",))
    await lab.steps()
    for name in ("runs", "waits"):
        await lab.desk.cancel(Cancel(id=name, reason="not needed"))
        await lab.desk.cancel(Cancel(id=name))
        view = await lab.job(name)
        assert (view.verdict, view.reason) == (VerdictKind.INFRASTRUCTURE, "not needed")
    await lab.steps()
    assert (await lab.board("p-1")).job is None
    with pytest.raises(RefusedError, match="no job 'nobody'"):
        await lab.desk.cancel(Cancel(id="nobody"))


async def test_a_board_whose_identity_changed_is_quarantined_until_somebody_vouches(lab: DeskWorld) -> None:
    announced = await lab.line.agents["p"].announced()
    (offered,) = announced.boards
    swapped = announced.model_copy(update={"boards": (offered.model_copy(update={"identity": "another"}),)})
    await lab.desk.announced(swapped)
    board = await lab.board("p-1")
    assert board.health is Health.QUARANTINED
    assert "it says that it is another" in board.reason
    brought = await lab.desk.set_health(SetHealth(board="p-1", action=HealthAction.BRING_BACK))
    assert brought.identity == "another"


async def test_a_restored_database_gives_tokens_beyond_those_that_its_places_know(lab: DeskWorld) -> None:
    for board in lab.boards.values():
        await lab.line.agents[board.name[0]].grant(Grant(board=board.name, token=500, ttl_s=1))
    await lab.submit("j")
    await lab.steps()
    await lab.pass_time(1)
    await lab.steps(8)
    (held,) = (await lab.job("j")).held
    assert held.token > 500


def test_rules_name_no_canary_by_themselves() -> None:
    assert Rules().canaries == {}


@one_board
async def test_a_benchmark_that_was_cancelled_is_not_made_to_leave_a_board_whose_place_has_yet_to_hear(
    lab: DeskWorld,
) -> None:
    await lab.submit("b", kind=JobKind.BENCHMARK, limit_s=60)
    await lab.steps()
    await lab.pass_time(1)
    await lab.steps()  # running, and no more flashing
    lab.line.lose_requests = 99
    await lab.desk.cancel(Cancel(id="b"))
    await lab.submit("j")
    await lab.steps(2)  # the desk goes on
    assert (await lab.job("j")).waits_for == "its boards: they are set aside for it"
    lab.line.lose_requests = 0
    await lab.pass_time(2)
    await lab.steps()
    assert (await lab.job("j")).state is JobState.RUNNING
