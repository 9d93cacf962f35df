"""Desk, racks and the line between them fail at any point: no board has two holders, every job ends exactly once."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.bus.exchanges import RefusedError
from shared.events.lab import JobKind, LabJobEnded
from shared.lab.messages import AskBoards, AskJobs, Cancel, HealthAction, JobState, Release, Renew, SetHealth, Touch
from shared.lab.verdict import AttemptOutcome
from shared.places.rig import Ended, RigError
from tests.unit.device_lab.desk_world import FAILED, PASSED, POLICY, WITH_CANARIES, DeskWorld
from tests.unit.places.place_world import work

T = TypeVar("T")
_ALL = AskBoards()
BOARDS = ("p-1", "q-1", "q-2")
ENDINGS: tuple[Ended | RigError, ...] = (
    PASSED,
    FAILED,
    RigError(AttemptOutcome.HANG, "no answer"),
    RigError(AttemptOutcome.LAB, "no worker"),
    RigError(AttemptOutcome.DISAPPEARED, "no port"),
)


class FailingLab(RuleBasedStateMachine):
    """Persons renew while they live, and go on writing with every token they ever had."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.submitted = 0
        self.alive: set[str] = set()
        self.tokens: set[tuple[str, int]] = set()
        self.world: DeskWorld = self.run(self.make())

    @staticmethod
    async def make() -> DeskWorld:
        return DeskWorld(WITH_CANARIES, BOARDS)

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing)

    @initialize()
    def begin(self) -> None:
        self.run(self.world.steps(2))
        for board in BOARDS:
            self.world.boards[board].finish(PASSED)
        self.run(self.world.pass_time(1))
        self.run(self.world.steps(3))

    @rule(boards=st.integers(1, 2), kind=st.sampled_from([JobKind.TEST, JobKind.BENCHMARK]))
    def submit(self, boards: int, kind: JobKind) -> None:
        self.submitted += 1
        self.run(
            self.world.submit(
                f"j{self.submitted:03}",
                project=f"p{self.submitted % 2}",
                demands=("any",) * boards,
                work=(work(50),) * boards,
                kind=kind,
            )
        )

    @rule(boards=st.integers(1, 2))
    def reserve(self, boards: int) -> None:
        self.submitted += 1
        self.run(self.world.reserve(f"j{self.submitted:03}", boards))
        self.run(self.world.steps(2))
        self.alive.add(f"j{self.submitted:03}")

    @rule(times=st.integers(1, 3))
    def step(self, times: int) -> None:
        self.run(self.world.steps(times))

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.world.pass_time(seconds))

    @rule(board=st.sampled_from(BOARDS), ending=st.sampled_from(ENDINGS))
    def end_the_work_on(self, board: str, ending: Ended | RigError) -> None:
        async def finish() -> None:
            self.world.boards[board].finish(ending)
            await self.world.steps(1)

        self.run(finish())

    @rule(place=st.sampled_from("pq"))
    def cut_off(self, place: str) -> None:
        self.world.line.down.add(place)

    @rule(place=st.sampled_from("pq"))
    def join_again(self, place: str) -> None:
        self.world.line.down.discard(place)

    @rule(place=st.sampled_from("pq"))
    def kill_the_agent_of(self, place: str) -> None:
        async def start() -> None:
            self.world.start_agent(place)

        self.run(start())

    @rule()
    def kill_the_desk(self) -> None:
        self.world.start_desk()

    @rule(requests=st.integers(0, 3), answers=st.integers(0, 3), repeats=st.integers(0, 3))
    def garble(self, requests: int, answers: int, repeats: int) -> None:
        line = self.world.line
        line.lose_requests, line.lose_answers, line.repeats = requests, answers, repeats

    @precondition(lambda self: self.alive)
    @rule(give_back=st.booleans())
    def people_act(self, give_back: bool) -> None:
        async def act(job: str) -> None:
            for held in (await self.world.job(job)).held:
                self.tokens.add((held.board, held.token))
                try:
                    if give_back:
                        await self.world.desk.release(Release(board=held.board, token=held.token))
                    else:
                        await self.world.desk.renew(Renew(board=held.board, token=held.token))
                except RefusedError:
                    self.alive.discard(job)

        for job in sorted(self.alive):
            self.run(act(job))

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 5))
    def kill_a_person(self, which: int) -> None:
        self.alive.discard(sorted(self.alive)[which % len(self.alive)])

    @precondition(lambda self: self.submitted)
    @rule(which=st.integers(1, 9))
    def cancel(self, which: int) -> None:
        self.run(self.world.desk.cancel(Cancel(id=f"j{1 + which % self.submitted:03}")))

    @rule(board=st.sampled_from(BOARDS), action=st.sampled_from([HealthAction.TAKE_OUT, HealthAction.BRING_BACK]))
    def move(self, board: str, action: HealthAction) -> None:
        async def ask() -> None:
            if any(view.name == board for view in (await self.world.desk.boards(_ALL)).boards):
                await self.world.desk.set_health(SetHealth(board=board, action=action))

        self.run(ask())

    @invariant()
    def only_the_holder_is_let_in(self) -> None:
        async def look() -> None:
            async with self.world.desk.books() as books:
                held = {name: board.held for name, board in books.ledger.boards.items()}
            for board, token in self.tokens:
                try:
                    await self.world.line.agents[board[0]].touch(Touch(board=board, token=token, write=b"!"))
                except RefusedError:
                    continue
                holder = held[board]
                assert holder is not None, f"{board} let in token {token}, and nobody holds it"
                assert holder.lease.token == token, f"{board} let in token {token}, {holder.lease.token} holds it"

        self.run(look())

    @invariant()
    def nobody_holds_a_board_beyond_their_time(self) -> None:
        async def look() -> None:
            await self.world.stepper.step()
            async with self.world.desk.books() as books:
                leader = books.leader
                leases = books.ledger.leases()
            now_s = self.world.clock.now_s
            leads = leader.name == self.world.desk.name
            assert not leads or all(now_s < lease.deadline_s + POLICY.grace_s for lease in leases)
            assert all(lease.deadline_s <= lease.cap_s for lease in leases)

        self.run(look())

    @invariant()
    def every_job_is_in_one_state_and_ends_once(self) -> None:
        async def look() -> None:
            jobs = (await self.world.desk.jobs(AskJobs(ended=True, limit=5000))).jobs
            assert len({job.id for job in jobs}) == len(jobs) == self.submitted
            ended = {job.id for job in jobs if job.state is JobState.ENDED}
            said = Counter(event.job for event in self.world.said(LabJobEnded) if isinstance(event, LabJobEnded))
            assert said == Counter(ended)
            assert not self.world.repeated

        self.run(look())

    def teardown(self) -> None:
        """All comes back and nobody renews any more: every job ends, and every board is free."""
        self.run(self._teardown())
        self.runner.close()

    async def _teardown(self) -> None:
        world = self.world
        world.line.down.clear()
        world.line.lose_requests = world.line.lose_answers = world.line.repeats = 0
        for _ in range(12 * self.submitted + 30):
            for board in (await world.desk.boards(_ALL)).boards:
                await world.desk.set_health(SetHealth(board=board.name, action=HealthAction.BRING_BACK))
            if not (await world.desk.jobs(AskJobs())).jobs:
                break
            # Again and again: an ending that was said to a free board is that of its next canary.
            for board in (await world.desk.boards(_ALL)).boards:
                await world.desk.set_health(SetHealth(board=board.name, action=HealthAction.BRING_BACK))
            await world.pass_time(6)
            await world.steps(2)
            for paper in world.boards.values():
                paper.finish(PASSED)
            await world.steps(2)
        left = (await world.desk.jobs(AskJobs())).jobs
        assert not left, left
        await world.close()


TestFailingLab = FailingLab.TestCase
TestFailingLab.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
