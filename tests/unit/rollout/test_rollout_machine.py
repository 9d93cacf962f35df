"""Rollouts under every interleaving: devices that fail, defer, vanish; messages lost, repeated, out of order."""

from collections import defaultdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.rollout_controller.domain import (
    Decision,
    Order,
    Phase,
    Project,
    Say,
    TargetState,
    accept_release,
    observe_device,
    observe_install,
    pass_time,
)
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome
from shared.events.rollout import (
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)
from tests.unit.rollout.world import FACTORY, World, candidate_of

ENDS = (RolloutSucceeded, RolloutRolledBack, RolloutSuperseded)
IN_FLIGHT = {TargetState.ORDERED, TargetState.RETRYING, TargetState.LOST, TargetState.RESTORING}
HARMLESS = {InstallOutcome.DEFERRED, InstallOutcome.REFUSED}


class Rollouts(RuleBasedStateMachine):
    """Boards obey fencing tokens and tell the truth; everything between them and the controller goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.unsent: list[Order] = []
        self.mail: list[tuple[str, Any, Any]] = []
        self.obeyed: dict[str, int] = defaultdict(int)
        self.tokens: dict[str, int] = defaultdict(int)
        self.releases = 0
        self.started: set[UUID] = set()
        self.ended: set[UUID] = set()
        self.failed: set[UUID] = set()
        # Evidence that was delivered, kept apart from the state under test.
        self.proven: dict[tuple[str, str], bool] = defaultdict(bool)
        self.forward: dict[UUID, dict[str, Order]] = defaultdict(dict)
        self.harmless: set[tuple[str, int]] = set()

    # What happens

    @initialize(devices=st.integers(1, 12))
    def fleet(self, devices: int) -> None:
        for _ in range(devices):
            self.join()
        self.deliver_all()
        self.tick(5)

    @rule()
    def join(self) -> None:
        if len(self.world.boards) < 16:
            device = f"watch-{len(self.world.boards)}"
            self.world.boards[device] = FACTORY
            self.post_report(device, DeviceState.CONFIRMED)

    @rule(budget=st.sampled_from([0.0, 0.05, 0.3]), again=st.booleans())
    def accept(self, budget: float, again: bool) -> None:
        self.releases += 1
        release = max(1, self.releases - 1) if again else self.releases
        candidate = candidate_of(release, attempt=self.releases, budget=budget)
        self.apply(accept_release(self.world.state, candidate, self.world.now))

    @precondition(lambda self: self.unsent)
    @rule(data=st.data(), outcome=st.sampled_from(InstallOutcome), silent=st.booleans())
    def obey(self, data: st.DataObject, outcome: InstallOutcome, silent: bool) -> None:
        order = self.unsent.pop(data.draw(st.integers(0, len(self.unsent) - 1)))
        self.carry_out(order, outcome, silent=silent)

    @precondition(lambda self: self.unsent)
    @rule(data=st.data())
    def claim_success_without_it(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.unsent))
        claim = self.world.answer_of(order, InstallOutcome.VERIFIED)
        self.mail.append(("install", claim, self.world.now))

    @precondition(lambda self: self.unsent)
    @rule(data=st.data())
    def lose_the_order(self, data: st.DataObject) -> None:
        self.unsent.pop(data.draw(st.integers(0, len(self.unsent) - 1)))

    @precondition(lambda self: self.mail)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.mail) - 1))
        kind, message, at = self.mail[index] if keep else self.mail.pop(index)
        self.receive(kind, message, at)

    @precondition(lambda self: self.world.boards)
    @rule(data=st.data(), state=st.sampled_from(DeviceState))
    def report(self, data: st.DataObject, state: DeviceState) -> None:
        self.post_report(data.draw(st.sampled_from(sorted(self.world.boards))), state)

    @rule(seconds=st.integers(1, 90))
    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.now += timedelta(seconds=1)
            self.apply(pass_time(self.world.state, self.world.now))

    # What must hold

    @invariant()
    def at_most_one_rollout_is_under_way(self) -> None:
        assert len(self.started - self.ended) <= 1
        active = self.world.state.active
        assert (active is None) == (not self.started - self.ended)
        if active is not None:
            assert active.phase in {Phase.RUNNING, Phase.ROLLING_BACK}

    def teardown(self) -> None:
        """Once everything works again, every rollout comes to its end."""
        for _ in range(60):
            while self.unsent:
                self.carry_out(self.unsent.pop(0), InstallOutcome.VERIFIED, silent=False)
            for device in self.world.boards:
                self.post_report(device, DeviceState.CONFIRMED)
            self.deliver_all()
            if not self.unsent and self.world.state.active is None and self.world.state.pending is None:
                break
            self.tick(15)
        assert self.world.state.active is None
        assert self.world.state.pending is None or not self.world.boards
        assert self.started == self.ended & self.started
        assert len(self.failed) == sum(isinstance(said, RolloutRolledBack) for said in self.world.said)

    # How it is played

    def carry_out(self, order: Order, outcome: InstallOutcome, *, silent: bool) -> None:
        world = self.world
        if order.token < self.obeyed[order.device]:
            outcome = InstallOutcome.REFUSED
        else:
            self.obeyed[order.device] = order.token
        if outcome is InstallOutcome.VERIFIED or (outcome is InstallOutcome.LOST and silent):
            world.boards[order.device] = order.image
        if not (silent and outcome is not InstallOutcome.LOST):
            world.now += timedelta(milliseconds=1)
            self.mail.append(("install", world.answer_of(order, outcome), world.now))

    def post_report(self, device: str, state: DeviceState) -> None:
        self.world.now += timedelta(milliseconds=1)
        self.mail.append(("report", self.world.report_of(device, state), self.world.now))

    def deliver_all(self) -> None:
        while self.mail:
            self.receive(*self.mail.pop(0))

    def receive(self, kind: str, message: Any, at: Any) -> None:
        if kind == "report":
            self.note_report(message)
            self.apply(observe_device(self.world.state, message, self.world.now))
        else:
            self.note_install(message)
            before, newest = self.state_of(message.device), self.tokens[message.device]
            self.apply(observe_install(self.world.state, message, at, self.world.now))
            if message.fencing_token < newest and before in IN_FLIGHT:
                assert self.state_of(message.device) == before, "the end of an older order is not an answer"

    def state_of(self, device: str) -> TargetState | None:
        active = self.world.state.active
        target = None if active is None else active.targets.get(device)
        return None if target is None else target.state

    def note_report(self, report: DeviceReported) -> None:
        if report.state is DeviceState.CONFIRMED and report.digest:
            self.proven[report.device, report.digest] = True

    def note_install(self, observed: InstallObserved) -> None:
        if observed.outcome in HARMLESS | {InstallOutcome.REVERTED}:
            self.harmless.add((observed.device, observed.fencing_token))
        if observed.outcome is InstallOutcome.VERIFIED and observed.observed:
            self.proven[observed.device, observed.observed] = True

    def apply(self, outcome: tuple[Project, list[Decision]]) -> None:
        decisions = self.world.apply(outcome)
        for decision in decisions:
            if isinstance(decision, Order):
                self.check_order(decision)
            else:
                self.check_said(decision, decisions)

    def check_order(self, order: Order) -> None:
        assert order.token > self.tokens[order.device], "fencing tokens grow with every order to a device"
        self.tokens[order.device] = order.token
        self.unsent.append(order)
        if order.rollout_id in self.failed:
            return
        active = self.world.state.active
        assert order.rollout_id in self.started
        self.forward[order.rollout_id][order.device] = order
        if active is not None and active.candidate.rollout_id == order.rollout_id:
            reached = {name for stage in active.stages[: active.stage + 1] for name in stage.devices}
            assert order.device in reached, "nothing is installed outside the stages that have begun"
            assert set(self.forward[order.rollout_id]) <= reached

    def check_said(self, said: Say, decisions: list[Decision]) -> None:
        payload = said.payload
        if isinstance(payload, RolloutStarted):
            assert payload.rollout_id not in self.started
            self.started.add(payload.rollout_id)
        elif isinstance(payload, RolloutStageCompleted):
            self.check_stage(payload)
        elif isinstance(payload, RolloutFailed):
            self.check_failure(payload, decisions)
        elif isinstance(payload, RolloutRolledBack):
            self.check_rollback(payload)
        if isinstance(payload, ENDS):
            assert payload.rollout_id not in self.ended, "every rollout ends exactly once"
            self.ended.add(payload.rollout_id)
            assert (payload.rollout_id in self.failed) == isinstance(payload, RolloutRolledBack)

    def check_stage(self, payload: RolloutStageCompleted) -> None:
        rollouts = [*self.world.state.ended, self.world.state.active]
        rollout = next(r for r in rollouts if r is not None and r.candidate.rollout_id == payload.rollout_id)
        stage = next(stage for stage in rollout.stages if stage.name == payload.stage)
        assert payload.verified > 0, "no data never promotes"
        unproven = [name for name in stage.devices if not self.proven[name, payload.digest]]
        budget = rollout.candidate.policy.failure_budget
        size = len(rollout.targets) if stage.name == "late" else len(stage.devices)
        assert len(unproven) <= budget * size, "silence never promotes beyond the failure budget"

    def check_rollback(self, payload: RolloutRolledBack) -> None:
        failed = next(f for f in self.world.said if isinstance(f, RolloutFailed) and f.rollout_id == payload.rollout_id)
        assert set(failed.rolling_back) <= {*payload.restored, *payload.lost}
        assert not set(payload.restored) & set(payload.lost)

    def check_failure(self, payload: RolloutFailed, decisions: list[Decision]) -> None:
        assert payload.rollout_id not in self.failed
        self.failed.add(payload.rollout_id)
        ordered_back = {d.device for d in decisions if isinstance(d, Order) and d.rollout_id == payload.rollout_id}
        assert set(payload.rolling_back) <= ordered_back
        exposed = {
            device
            for device, order in self.forward[payload.rollout_id].items()
            if (device, order.token) not in self.harmless
        }
        active = self.world.state.active
        targets = {} if active is None else active.targets
        unforeseen = {
            device
            for device in exposed - ordered_back
            if device in targets and targets[device].state is not TargetState.RESTORED
        }
        assert not unforeseen, "after a failure every exposed device is ordered back"


Rollouts.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRollouts = Rollouts.TestCase
