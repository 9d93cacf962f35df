"""The scheduler: who gets which board, and how long anybody waits."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.device_lab_scheduler.domain.matching import soonest_set
from services.device_lab_scheduler.domain.scheduling import Lab, Policy, schedule, wait_bound_s
from shared.lab import Health, Job, JobKind, Lease, Requirement, parse_requirement
from tests.unit.device_lab.lab_world import World, board

D = 100.0
POLICY = Policy(ageing_s=50, grace_s=0, longest_s=D)
M4, M7 = parse_requirement("core=cortex-m4"), parse_requirement("core=cortex-m7")
ANY = Requirement()


def job(name: str, project: str = "gait", *demands: Requirement, **changes: object) -> Job:
    plain = Job(name, project, demands=demands or (ANY,), limit_s=D)
    return replace(plain, **changes)  # type: ignore[arg-type]


def lab(world: World, *jobs: Job) -> Lab:
    world.waiting = list(jobs)
    return world.lab()


def test_the_order_in_which_boards_jobs_and_places_are_listed_changes_nothing() -> None:
    boards = [board("a"), board("b", "cortex-m7"), board("c")]
    jobs = [job("1", "gait", M4), job("2", "voice", M7, M4), job("3", "gait"), job("4", "voice")]
    plans = {
        (plan.starts, plan.turns.holder)
        for some in permutations(boards)
        for order in permutations(jobs)
        for plan in [schedule(lab(World(some, POLICY), *order), 0.0)]
    }
    assert len(plans) == 1


def test_several_boards_are_given_at_once_or_not_at_all() -> None:
    world = World([board("a"), board("b")], POLICY)
    world.run([job("1", "gait"), job("2", "voice", ANY, ANY, submitted_s=1), job("3", "gait", submitted_s=2)])
    assert world.started_s == {"1": 0, "2": D, "3": 2 * D}, "b stays free for job 2, which job 3 would have held up"


def test_what_is_over_in_time_fills_the_boards_that_are_set_aside() -> None:
    world = World([board("a"), board("b")], POLICY)
    short = job("3", submitted_s=2, limit_s=D - 2)
    world.run([job("1"), job("2", "voice", ANY, ANY, submitted_s=1), short])
    assert world.started_s == {"1": 0, "2": D, "3": 2}


def test_a_benchmark_leaves_for_others_but_never_while_it_flashes() -> None:
    world = World([board("a")], POLICY)
    lab(world, job("1", kind=JobKind.BENCHMARK))
    (start,) = world.step().starts
    held = world.leases["a"]
    assert schedule(lab(world, job("2", "voice")), 1.0).preempt == (held,)
    assert schedule(lab(world, job("2", "voice", kind=JobKind.BENCHMARK)), 1.0).preempt == ()
    for untouchable in (replace(held, flashing=True), replace(held, preemptible=False)):
        world.leases["a"] = untouchable
        assert schedule(lab(world, job("2", "voice")), 1.0).preempt == ()
    assert start.boards == ("a",)


@pytest.mark.parametrize("health", [health for health in Health if health is not Health.GOOD])
def test_only_good_boards_work(health: Health) -> None:
    assert schedule(lab(World([board("a", health=health)], POLICY), job("1")), 0.0).starts == ()


def test_a_board_whose_canary_is_due_runs_that_first() -> None:
    plan = schedule(lab(World([board("a", canary_due=True)], POLICY), job("1")), 0.0)
    assert (plan.starts, plan.canaries) == ((), ("a",))


def test_a_dead_rack_holds_up_nobody_and_loses_the_turn() -> None:
    boards = [board("a"), board("dead", "cortex-m7", "far")]
    world = World(boards, POLICY, dead=["far"])
    jobs = [job("0", "gait", M7, M4), *(job(str(number), "voice", M4) for number in range(1, 4))]
    world.run(jobs)
    assert sorted(world.started_s.values()) == [0, D, 2 * D]
    assert all(plan.turns.holder != "0" for plan in world.plans)


def test_a_retry_goes_to_another_board() -> None:
    world = World([board("a"), board("b")], POLICY)
    assert schedule(lab(world, job("1", avoid=frozenset("a"))), 0.0).starts[0].boards == ("b",)
    assert schedule(lab(world, job("1", avoid=frozenset("ab"))), 0.0).starts == ()


def test_priorities_order_a_project_until_age_makes_up_for_them() -> None:
    jobs = [job("old"), job("urgent", priority=1, submitted_s=10), job("late", priority=1, submitted_s=60)]
    world = World([board("a")], POLICY)
    world.run([job("1", "voice", submitted_s=-2), job("2", "voice", submitted_s=-1), *jobs])
    assert sorted(world.started_s, key=world.started_s.__getitem__) == ["1", "2", "urgent", "old", "late"]


def test_shares_follow_the_weights_while_everybody_wants_more() -> None:
    policy = replace(POLICY, weights={"gait": 3.0})
    world = World([board(f"b{number}") for number in range(8)], policy)
    lab(world, *(job(f"{project}{number}", project) for project in ("gait", "voice") for number in range(40)))
    assert Counter(start.job.project for start in world.step().starts) == {"gait": 6, "voice": 2}


def test_under_a_flood_of_five_thousand_urgent_jobs_another_project_starts_within_its_bound() -> None:
    world = World([board("a"), board("b")], POLICY)
    flood = [job(f"f{number}", "flood", priority=9, limit_s=D) for number in range(5000)]
    world.waiting = flood
    world.step()
    world.waiting.append(job("mine", "gait", submitted_s=1))
    world.now_s = 1
    bound = wait_bound_s(POLICY, "gait", ["flood"], ahead=0)
    while "mine" not in world.started_s:
        world.leases = {name: lease for name, lease in world.leases.items() if lease.cap_s > world.now_s}
        world.step()
        world.now_s = min(lease.cap_s for lease in world.leases.values())
    assert world.started_s["mine"] - 1 <= bound == 4 * D


DEMANDS = st.lists(st.sampled_from([ANY, M4, M7]), min_size=1, max_size=3).map(tuple)


@st.composite
def floods(draw: st.DrawFn) -> tuple[World, list[Job]]:
    boards = [board("m4"), board("m7", "cortex-m7")]
    boards += [board(f"x{number}", draw(st.sampled_from(["cortex-m4", "cortex-m7"]))) for number in range(2)]
    weights = {name: draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])) for name in ("gait", "voice", "flood")}
    policy = replace(POLICY, weights=weights, grace_s=draw(st.sampled_from([0.0, 2.0])))
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, 30))):
        jobs.append(  # noqa: PERF401 - draws are clearer one by one
            Job(
                f"j{number:02}",
                draw(st.sampled_from(sorted(weights))),
                demands=draw(DEMANDS),
                priority=draw(st.integers(0, 3)),
                submitted_s=float(draw(st.integers(0, 300))),
                limit_s=draw(st.sampled_from([1.0, 20.0, 55.0, D])),
            )
        )
    lasts = {job.id: draw(st.sampled_from([0.5, 10.0, 1e9])) for job in jobs if draw(st.booleans())}
    return World(boards, policy, lasts=lasts), jobs


def _possible(world: World, job: Job) -> bool:
    options = [[b.name for b in world.boards if demand.holds(b.traits)] for demand in job.demands]
    return soonest_set(options, lambda _name: 0.0) is not None


@settings(max_examples=400, deadline=None)
@given(floods())
def test_every_job_starts_once_within_its_bound(flood: tuple[World, list[Job]]) -> None:
    world, jobs = flood
    world.run(jobs)
    possible = [job for job in jobs if _possible(world, job)]
    assert set(world.started_s) == {job.id for job in possible}
    for mine in possible:
        rivals = {other.project for other in possible} - {mine.project}
        start_s = world.started_s[mine.id]
        ahead = sum(
            other.project == mine.project
            and other.id != mine.id
            and other.submitted_s <= start_s
            and world.started_s[other.id] >= mine.submitted_s
            and (other.submitted_s - 50 * other.priority, other.id) < (mine.submitted_s - 50 * mine.priority, mine.id)
            for other in possible
        )
        assert start_s - mine.submitted_s <= wait_bound_s(world.policy, mine.project, rivals, ahead=ahead)


@settings(max_examples=200, deadline=None)
@given(floods())
def test_nobody_holds_boards_while_waiting_and_nothing_fits_what_stays_free(flood: tuple[World, list[Job]]) -> None:
    world, jobs = flood
    world.waiting = jobs
    plan = world.step()
    for start in plan.starts:
        held = [next(b for b in world.boards if b.name == name) for name in start.boards]
        assert len(set(start.boards)) == len(start.job.demands)
        assert all(demand.holds(b.traits) for demand, b in zip(start.job.demands, held, strict=True))
    free = [b for b in world.boards if b.name not in world.leases and b.name not in plan.set_aside]
    assert not any(len(j.demands) == 1 and any(j.demands[0].holds(b.traits) for b in free) for j in world.waiting)


@given(st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_the_soonest_set_is_the_best_of_all_there_are(options: list[list[str]], data: st.DataObject) -> None:
    at = {name: float(data.draw(st.integers(0, 9))) for name in "abcde"}
    every = [
        chosen
        for chosen in permutations("abcde", len(options))
        if all(name in allowed for name, allowed in zip(chosen, options, strict=True))
    ]
    found = soonest_set(options, at.__getitem__)
    assert (found is None) == (not every)
    if found is not None:
        assert found in every
        assert max(map(at.__getitem__, found)) == min(max(map(at.__getitem__, chosen)) for chosen in every)


def test_leases_of_other_boards_than_there_are_do_no_harm() -> None:
    world = World([board("a")], POLICY)
    world.leases["gone"] = Lease("gone", "j", "voice", JobKind.TEST, "x", 1, 0, 9, 9)
    assert schedule(lab(world, job("1")), 0.0).starts[0].boards == ("a",)
