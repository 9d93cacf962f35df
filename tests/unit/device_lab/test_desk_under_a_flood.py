"""Nobody starves at the desk: what the scheduler proves holds with store, places and leases in between."""

from shared.events.lab import JobKind
from shared.lab.messages import JobState, Submit
from tests.unit.device_lab.desk_world import PASSED, POLICY, RULES, DeskWorld
from tests.unit.places.place_world import work

FLOOD = 5000


def urgent(number: int) -> Submit:
    return Submit(
        id=f"f{number:04}",
        project="flood",
        kind=JobKind.TEST,
        demands=("any",),
        priority=10,
        limit_s=POLICY.longest_s,
        work=(work(POLICY.longest_s),),
    )


async def test_under_five_thousand_urgent_jobs_another_project_s_job_starts_within_the_bound_it_was_told() -> None:
    lab = DeskWorld(RULES, ("p-1", "q-1"))
    await lab.steps(2)
    async with lab.desk.books() as books:  # one transaction, for it is not what is tried here
        for number in range(FLOOD):
            books.ledger.put_job(lab.desk._read(urgent(number)))
    await lab.steps(3)
    submitted_s = lab.clock.now_s
    bound_s = (await lab.submit("mine", project="gait")).bound_s
    assert bound_s == 4 * (POLICY.longest_s + POLICY.grace_s)
    began_s = dict.fromkeys(lab.boards, submitted_s)
    while (await lab.job("mine")).state is JobState.WAITING:
        assert lab.clock.now_s - submitted_s <= bound_s
        await lab.pass_time(6)
        for name, board in lab.boards.items():
            if lab.clock.now_s - began_s[name] >= POLICY.longest_s - 6:  # as long as it may
                board.finish(PASSED)
                began_s[name] = lab.clock.now_s
        await lab.steps(3)
    assert (await lab.job("mine")).state is JobState.RUNNING
    await lab.close()
