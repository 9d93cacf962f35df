"""Leases and fences: a board has one holder, and a late holder's bytes do not reach it."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.device_lab_scheduler.domain.leasing import grant, is_over, owned, renew, run_out, stop
from services.device_lab_scheduler.domain.scheduling import Lab, Policy, Turns, schedule
from shared.lab import Fence, Job, JobKind, Lease, LeaseLostError, Place, StaleTokenError
from shared.lab.requirement import ANY
from tests.unit.device_lab.lab_world import board

POLICY = Policy(grace_s=2, ttl_s=10, longest_s=30, place_ttl_s=15)


def a_lease(deadline_s: float = 10, cap_s: float = 30, token: int = 1) -> Lease:
    return Lease("a", "1", "gait", JobKind.TEST, "me", token, 0, deadline_s, cap_s)


def test_a_renewal_reaches_to_the_cap_and_no_further() -> None:
    lease = renew(a_lease(), "a", 1, 9, POLICY)
    assert lease.deadline_s == 19
    lease = renew(renew(lease, "a", 1, 18, POLICY), "a", 1, 27, POLICY)
    assert lease.deadline_s == 30
    with pytest.raises(LeaseLostError, match="reached its cap: ask for a longer limit"):
        renew(lease, "a", 1, 30, POLICY)


@pytest.mark.parametrize(
    ("lease", "token", "now_s", "said"),
    [
        (None, 1, 0, "nobody holds it"),
        (a_lease(token=2), 1, 0, "token 2 holds it, for job 1"),
        (a_lease(), 1, 10, "reached its deadline: renew more often"),
    ],
)
def test_a_lost_lease_is_not_renewed_and_says_why(lease: Lease | None, token: int, now_s: float, said: str) -> None:
    with pytest.raises(LeaseLostError, match=said):
        renew(lease, "a", token, now_s, POLICY)


def test_a_board_is_given_on_only_after_the_grace() -> None:
    assert not is_over(a_lease(), 11.9, POLICY)
    assert run_out([a_lease(), a_lease(20)], 12, POLICY) == [a_lease()]


def test_a_fence_admits_the_holder_alone_and_in_time() -> None:
    fence = Fence().grant("a", 1, 10)
    fence.admit("a", 1, 9.9)
    for stale, token, now_s, said in [
        (fence, 1, 10.5, "ended 0.5 s ago"),
        (fence, 2, 1, "found token 2, allowed is 1"),
        (fence.grant("a", 2, 20), 1, 1, "found token 1, allowed is 2"),
        (fence.shut("a", 1), 1, 1, "when it was given back"),
        (fence, 1, 12, "Next: ask for a new one"),
        (Fence(), 0, 1, "when it was given back"),
    ]:
        with pytest.raises(StaleTokenError, match=said):
            stale.admit("a", token, now_s)


def test_what_reaches_a_fence_late_opens_nothing_again() -> None:
    fence = Fence().grant("a", 2, 20)
    assert fence.grant("a", 1, 99) is fence
    assert fence.grant("a", 2, 15) is fence
    shut = fence.shut("a", 2)
    with pytest.raises(StaleTokenError):
        shut.shut("a", 1).admit("a", 2, 1)
    assert shut.grant("a", 2, 99) is shut
    assert fence.shut("a", 1) is fence


def test_a_stopped_lease_is_not_renewed_and_holds_the_board_until_it_is_over() -> None:
    stopped = stop(a_lease())
    assert renew(stopped, "a", 1, 9, POLICY).deadline_s == 10
    assert not is_over(stopped, 11, POLICY)
    assert is_over(stopped, 12, POLICY)


class Crashes(RuleBasedStateMachine):
    """Clients, gateways, the scheduler and the bus stop and start at any point; time goes on.

    What the scheduler wrote survives it. Gateways learn of grants before holders do, or the grant does not happen.
    Clients keep writing with the tokens they once had: the fence has to stop them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.boards = [board("a", place="p"), board("b", place="q"), board("c", place="q")]
        self.place_of = {b.name: b.traits.place for b in self.boards}
        self.seen = {"p": 0.0, "q": 0.0}
        self.leases: dict[str, Lease] = {}
        self.tokens: dict[str, int] = {}
        self.turns = Turns()
        self.waiting: list[Job] = []
        self.ended: dict[str, int] = {}
        self.submitted = 0
        self.fences = {"p": Fence(), "q": Fence()}
        self.down: set[str] = set()
        self.clients: dict[tuple[str, int], bool] = {}
        """By board and token, whether that client is alive."""
        self.wrote: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        self.submit(1)

    @rule(boards=st.integers(1, 2))
    def submit(self, boards: int) -> None:
        self.submitted += 1
        name = f"j{self.submitted:03}"
        self.waiting.append(Job(name, f"p{self.submitted % 2}", demands=(ANY,) * boards, submitted_s=self.now_s))

    @rule(part=st.sampled_from(["p", "q", "scheduler", "broker"]))
    def kill(self, part: str) -> None:
        self.down.add(part)
        if part in self.fences:
            self.fences[part] = Fence()  # a gateway keeps nothing over a restart, and admits nobody it was not told of

    @rule(part=st.sampled_from(["p", "q", "scheduler", "broker"]))
    def start(self, part: str) -> None:
        self.down.discard(part)

    @rule(client=st.integers(0, 5))
    def kill_a_client(self, client: int) -> None:
        alive = [key for key, lives in self.clients.items() if lives]
        if client < len(alive):
            self.clients[alive[client]] = False

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def _reaches(self, *parts: str) -> bool:
        return self.down.isdisjoint({"broker", *parts})

    @rule()
    def make_a_pass(self) -> None:
        if "scheduler" in self.down:
            return
        for place in self.seen:
            if self._reaches(place):
                self.seen[place] = self.now_s
        for lease in run_out(self.leases.values(), self.now_s, POLICY):
            self._end(lease)
        lab = Lab(
            self.boards,
            [Place(name, seen_s) for name, seen_s in self.seen.items()],
            list(self.leases.values()),
            self.waiting,
            self.turns,
            POLICY,
        )
        plan = schedule(lab, self.now_s)
        self.turns = plan.turns
        for start in plan.starts:
            if not all(self._reaches(self.place_of[name]) for name in start.boards):
                continue  # a fence that cannot be told: the job keeps waiting
            self.waiting = [job for job in self.waiting if job.id != start.job.id]
            for lease in grant(start, "client", self.tokens, self.now_s, POLICY):
                assert lease.board not in self.leases, "two holders"
                self.leases[lease.board] = lease
                self.tokens[lease.board] = lease.token
                place = self.place_of[lease.board]
                self.fences[place] = self.fences[place].grant(lease.board, lease.token, lease.deadline_s)
                self.clients[lease.board, lease.token] = True

    def _end(self, lease: Lease) -> None:
        if lease.job not in self.ended:
            self.ended[lease.job] = 1
        for held in [held for held in self.leases.values() if held.job == lease.job]:
            place = self.place_of[held.board]
            if self._reaches(place):
                self.fences[place] = self.fences[place].shut(held.board, held.token)
            if self._reaches(place) or is_over(held, self.now_s, POLICY):
                del self.leases[held.board]
            else:
                self.leases[held.board] = stop(held)

    @precondition(lambda self: self.clients)
    @rule()
    def clients_renew_and_write(self) -> None:
        for (name, token), alive in self.clients.items():
            place = self.place_of[name]
            if not alive:
                continue
            if self._reaches("scheduler", place):
                try:
                    lease = renew(self.leases.get(name), name, token, self.now_s, POLICY)
                except LeaseLostError:
                    pass  # it goes on writing all the same: a client that does not look
                else:
                    self.leases[name] = lease
                    self.fences[place] = self.fences[place].grant(name, token, lease.deadline_s)
            if self._reaches(place):
                try:
                    self.fences[place].admit(name, token, self.now_s)
                except StaleTokenError:
                    continue
                assert self.leases[name].token == token, "a late holder's bytes reached the board"
                assert self.wrote.get(name, 0) <= token, "a former holder wrote after a later one"
                self.wrote[name] = token

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 2))
    def a_job_is_done(self, which: int) -> None:
        lease = list(self.leases.values())[which % len(self.leases)]
        if self._reaches("scheduler") and self.clients.get((lease.board, lease.token)):
            owned(lease, lease.board, lease.token)
            self._end(lease)

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        waiting = [job.id for job in self.waiting]
        held = {lease.job for lease in self.leases.values()} - set(self.ended)
        assert len(waiting) == len(set(waiting))
        assert len(waiting) + len(held) + len(self.ended) == self.submitted
        assert set(waiting).isdisjoint(held | set(self.ended))

    @invariant()
    def no_lease_outlives_its_cap(self) -> None:
        assert all(lease.deadline_s <= lease.cap_s <= lease.granted_s + 30 for lease in self.leases.values())

    def teardown(self) -> None:
        """Everything comes back, clients do not: then every job ends, and no board is held longer than its TTL."""
        self.down.clear()
        self.clients = dict.fromkeys(self.clients, False)
        for _ in range(2 * self.submitted + 2):
            self.make_a_pass()
            held = dict(self.leases)
            self.now_s += POLICY.ttl_s + POLICY.grace_s
            self.clients = dict.fromkeys(self.clients, False)
            self.make_a_pass()
            assert not any(self.leases.get(name) == lease for name, lease in held.items()), "orphaned"
        assert len(self.ended) == self.submitted


def test_a_job_that_loses_one_board_while_the_bus_is_down_keeps_the_other_until_its_token_ends() -> None:
    lab = Crashes()
    lab.submit(2)
    lab.make_a_pass()
    lost, kept = lab.leases.values()
    lab.clients[lost.board, lost.token] = False
    lab.now_s = 8
    lab.clients_renew_and_write()
    lab.now_s = 13
    lab.kill("broker")
    lab.make_a_pass()
    lab.start("broker")
    assert list(lab.leases) == [kept.board]
    lab.clients_renew_and_write()  # asserts that whoever is admitted holds the board
    lab.now_s = 20
    lab.make_a_pass()
    assert not lab.leases
    lab.every_job_is_in_one_place()


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.integers(1, 50)), max_size=20), st.randoms())
def test_grants_reach_the_same_fence_in_any_order(grants: list[tuple[str, int, int]], random: Random) -> None:
    def told(some: list[tuple[str, int, int]]) -> Fence:
        fence = Fence()
        for name, token, deadline_s in some:
            fence = fence.grant(name, token, deadline_s)
        return fence

    shuffled = random.sample(grants, len(grants))
    assert told(grants) == told(shuffled)
