"""A board that lies, hangs or is another one is quarantined, and the job passes elsewhere: no model is blamed."""

from collections.abc import AsyncIterator

import pytest

from shared.events.lab import Health, VerdictKind
from shared.lab.messages import JobState
from shared.lab.verdict import MISBEHAVIOUR, AttemptOutcome
from shared.places.rig import RigError
from tests.unit.device_lab.desk_world import PASSED, WITH_CANARIES, DeskWorld

TROUBLES = (*sorted(MISBEHAVIOUR), AttemptOutcome.DISAPPEARED, AttemptOutcome.SWAPPED)


@pytest.fixture
async def lab() -> AsyncIterator[DeskWorld]:
    """Two boards in good health."""
    world = DeskWorld(WITH_CANARIES, ("p-1", "q-1"))
    await world.steps(2)
    for board in world.boards.values():
        board.finish(PASSED)
    await settle(world)
    yield world
    await world.close()


async def settle(lab: DeskWorld) -> None:
    await lab.pass_time(1)
    await lab.steps()


async def runs_on(lab: DeskWorld, name: str) -> str:
    (held,) = (await lab.job(name)).held
    return held.board


async def misbehave(lab: DeskWorld, trouble: AttemptOutcome) -> str:
    """Let the job's board misbehave, and its canary too. Return the board."""
    await lab.submit("j")
    await settle(lab)
    bad = await runs_on(lab, "j")
    lab.boards[bad].finish(RigError(trouble, f"found {trouble}"))
    await settle(lab)
    if trouble in MISBEHAVIOUR:
        assert (await lab.board(bad)).health is Health.SUSPECT
        assert f"the canary on {bad}" in (await lab.job("j")).waits_for
        lab.boards[bad].finish(RigError(trouble, f"found {trouble}"))
        await settle(lab)
    return bad


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_misbehaving_board_is_quarantined_and_the_job_passes_on_another(
    lab: DeskWorld, trouble: AttemptOutcome
) -> None:
    bad = await misbehave(lab, trouble)
    view = await lab.board(bad)
    assert (view.health, trouble in view.reason) == (Health.QUARANTINED, True)
    other = await runs_on(lab, "j")
    assert other != bad
    lab.boards[other].finish(PASSED)
    await settle(lab)
    job = await lab.job("j")
    assert (job.state, job.verdict) == (JobState.ENDED, VerdictKind.PASSED)
    assert [(one.board, one.outcome) for one in job.attempts] == [(bad, trouble), (other, AttemptOutcome.PASSED)]
    assert (await lab.board(other)).health is Health.GOOD


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_where_every_board_misbehaves_the_model_is_not_blamed_and_the_job_waits_for_a_good_one(
    lab: DeskWorld, trouble: AttemptOutcome
) -> None:
    await misbehave(lab, trouble)
    other = await runs_on(lab, "j")
    for _ in range(2 if trouble in MISBEHAVIOUR else 1):
        lab.boards[other].finish(RigError(trouble, f"found {trouble}"))
        await settle(lab)
    job = await lab.job("j")
    assert (job.state, job.verdict) == (JobState.WAITING, None)
    assert job.waits_for == "no live board can serve it: 2 quarantined"


async def test_a_board_that_is_swapped_while_it_is_free_gets_no_job(lab: DeskWorld) -> None:
    lab.boards["p-1"].serial = "another"
    await settle(lab)
    assert (await lab.board("p-1")).health is Health.QUARANTINED
    for number in range(3):
        await lab.submit(f"j{number}")
        await settle(lab)
        assert (await lab.job("j0")).held[0].board == "q-1"
    assert not [image for image in lab.boards["p-1"].reached[1:] if image], "the canary alone was ever written to it"


async def test_a_board_that_stumbles_again_and_again_is_quarantined_though_it_passes_its_canary(lab: DeskWorld) -> None:
    for number in range(3):
        name = f"j{number}"
        await lab.submit(name, demands=("place in p",))
        await settle(lab)
        lab.boards["p-1"].finish(RigError(AttemptOutcome.HANG, "no answer"))
        await settle(lab)
        lab.boards["p-1"].finish(PASSED)  # the canary
        await settle(lab)
    view = await lab.board("p-1")
    assert (view.health, view.reason) == (Health.QUARANTINED, "misbehaved 3 times, last: no answer")


async def test_boards_that_no_live_job_can_have_are_counted_once_however_many_are_asked_for(lab: DeskWorld) -> None:
    for name in ("p-1", "q-1"):
        lab.boards[name].serial = "another"
    await settle(lab)
    assert (await lab.reserve("r", boards=2)).waits_for == "no live board can serve it: 2 quarantined"
