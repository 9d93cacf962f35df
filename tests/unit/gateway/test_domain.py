"""The install planner: from wherever a board is, towards the order, and only observed facts end it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from device_gateway.domain import (
    MAX_RESETS,
    MAX_UPLOADS,
    Order,
    Progress,
    Step,
    Verdict,
    after_step,
    is_worth_saying,
    plan,
    sight,
    smoke_failure,
)
from device_gateway.drivers import SlotState
from shared.events.device import DeviceState, InstallOutcome

OLD, NEW, OTHER = "0" * 64, "1" * 64, "2" * 64
WANTED = Order(wanted=NEW, has_image=True)


def slot(image_hash: str, flags: str = "") -> SlotState:
    return SlotState(image_hash, "1.0.0", active="a" in flags, confirmed="c" in flags, pending="p" in flags)


@pytest.mark.parametrize(
    ("slots", "progress", "step"),
    [
        ((slot(OLD, "ac"),), Progress(), Step.UPLOAD),
        ((slot(OLD, "ac"), slot(OTHER)), Progress(), Step.UPLOAD),
        ((slot(OLD, "ac"), slot(NEW)), Progress(), Step.MARK_FOR_TEST),
        ((slot(OLD, "ac"), slot(NEW, "p")), Progress(), Step.BEGIN_TRIAL),
        ((slot(OLD, "ac"), slot(OTHER, "p")), Progress(), Step.RESET),
        ((slot(OTHER, "a"), slot(OLD, "c")), Progress(), Step.RESET),
        ((slot(OTHER, "a"), slot(NEW, "c")), Progress(), Step.RESET),
        ((slot(NEW, "a"), slot(OLD, "c")), Progress(), Step.SMOKE_TEST),
        ((slot(NEW, "a"), slot(OLD, "c")), Progress(trials=2), Step.SMOKE_TEST),
        ((slot(NEW, "a"), slot(OLD, "c")), Progress(smoke_tested=True), Step.CONFIRM),
        ((slot(NEW, "a"), slot(OLD, "c")), Progress(failure="wrong"), Step.RESET),
    ],
)
def test_the_next_step_follows_from_the_slots(slots: tuple[SlotState, ...], progress: Progress, step: Step) -> None:
    assert plan(WANTED, slots, progress) is step


@pytest.mark.parametrize(
    ("slots", "progress", "outcome"),
    [
        ((slot(NEW, "ac"),), Progress(), InstallOutcome.VERIFIED),
        ((slot(NEW, "ac"), slot(OLD)), Progress(trials=1), InstallOutcome.VERIFIED),
        ((slot(OLD, "ac"), slot(NEW)), Progress(trials=1), InstallOutcome.REVERTED),
        ((slot(OLD, "ac"),), Progress(trials=1), InstallOutcome.REVERTED),
        ((slot(OLD, "ac"), slot(NEW)), Progress(trials=1, failure="wrong"), InstallOutcome.REVERTED),
        ((slot(NEW, "a"),), Progress(resets=MAX_RESETS, failure="wrong"), InstallOutcome.LOST),
        ((slot(OLD, "ac"), slot(NEW, "p")), Progress(resets=MAX_RESETS), InstallOutcome.REFUSED),
        ((slot(OLD, "ac"),), Progress(uploads=MAX_UPLOADS), InstallOutcome.REFUSED),
        ((slot(OLD),), Progress(), InstallOutcome.REFUSED),
    ],
)
def test_only_what_is_observed_ends_an_order(
    slots: tuple[SlotState, ...], progress: Progress, outcome: InstallOutcome
) -> None:
    verdict = plan(WANTED, slots, progress)
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is outcome
    assert bool(verdict.detail) == (outcome is not InstallOutcome.VERIFIED)


def test_without_an_image_only_the_second_slot_can_serve() -> None:
    order = Order(wanted=OLD, has_image=False)
    assert plan(order, (slot(NEW, "ac"), slot(OLD)), Progress()) is Step.MARK_FOR_TEST
    verdict = plan(order, (slot(NEW, "ac"), slot(OTHER)), Progress())
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is InstallOutcome.REFUSED


def test_a_smoke_test_is_bit_exact() -> None:
    assert smoke_failure(b"\x01\x02", b"\x01\x02") == ""
    assert "1 of 2 output bytes differ" in smoke_failure(b"\x01\x02", b"\x01\x03")
    assert "1 of 2 output bytes differ" in smoke_failure(b"\x01\x02", b"\x01")


class InstallMachine(RuleBasedStateMachine):
    """A board that is driven by the plan while power, gateway and firmware misbehave."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.second, self.pending, self.trial = OLD, "", False, False
        self.progress, self.stored_trials = Progress(), 0
        self.good = True
        self.ended: Verdict | None = None

    @initialize(second=st.sampled_from(["", OTHER, NEW]), mark=st.booleans(), good=st.booleans(), begin=st.booleans())
    def found(self, second: str, mark: bool, good: bool, begin: bool) -> None:
        self.second, self.pending, self.good = second, bool(second) and mark, good
        if self.pending and begin:
            self.reset()

    def slots(self) -> tuple[SlotState, ...]:
        first = SlotState(self.primary, "1", active=True, confirmed=not self.trial)
        if not self.second:
            return (first,)
        return (first, SlotState(self.second, "1", confirmed=self.trial, pending=self.pending))

    def reset(self) -> None:
        if self.pending or self.trial:
            self.primary, self.second = self.second, self.primary
            self.trial, self.pending = self.pending, False

    @rule(lost=st.booleans())
    def take_the_next_step(self, lost: bool) -> None:
        if self.ended:
            return
        step = plan(WANTED, self.slots(), self.progress)
        if isinstance(step, Verdict):
            self.ended = step
            self.check(step)
            return
        failure = self.act(step, lost=lost)
        self.progress = after_step(self.progress, step, failure)

    def act(self, step: Step, *, lost: bool) -> str:
        """Do it to the board, unless the request is lost on its way."""
        if step is Step.BEGIN_TRIAL:
            self.stored_trials += 1
        if step is Step.SMOKE_TEST:
            return "" if self.good else "wrong bits"
        if lost:
            return ""
        match step:
            case Step.UPLOAD:
                assert not self.pending, "the plan must not overwrite what is about to boot"
                assert not self.trial, "the plan must not overwrite what the board would go back to"
                self.second = NEW
            case Step.MARK_FOR_TEST:
                assert self.second == NEW
                self.pending = True
            case Step.CONFIRM:
                assert self.primary == NEW
                assert self.good, "a bad image must not be confirmed"
                self.trial = False
            case _:
                self.reset()
        return ""

    def check(self, verdict: Verdict) -> None:
        if verdict.outcome is InstallOutcome.VERIFIED:
            assert (self.primary, self.trial) == (NEW, False)
            assert self.good
        if verdict.outcome is InstallOutcome.REVERTED:
            assert self.primary != NEW

    @rule()
    def the_board_loses_power(self) -> None:
        if self.ended is None:
            self.reset()

    @rule()
    def the_gateway_is_killed_and_the_order_delivered_again(self) -> None:
        self.progress, self.ended = Progress(trials=self.stored_trials), None

    def teardown(self) -> None:
        """Left in peace, every order ends."""
        for _ in range(40):
            if self.ended:
                return
            self.take_the_next_step(lost=False)
        assert self.ended, (self.slots(), self.progress)


TestInstallMachine = InstallMachine.TestCase
TestInstallMachine.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_silent_board_is_lost_only_after_a_while() -> None:
    seen = sight(None, (slot(OLD, "ac"),), NOW, lost_after_s=10)
    assert seen.state is DeviceState.CONFIRMED
    later = sight(seen, None, NOW + timedelta(seconds=9), lost_after_s=10)
    assert later.state is DeviceState.CONFIRMED
    lost = sight(later, None, NOW + timedelta(seconds=10), lost_after_s=10)
    assert (lost.state, lost.image_hash) == (DeviceState.LOST, OLD)
    back = sight(lost, (slot(NEW, "a"),), NOW + timedelta(seconds=11), lost_after_s=10)
    assert (back.state, back.image_hash) == (DeviceState.TRIAL, NEW)


def test_news_is_said_at_once_and_the_rest_from_time_to_time() -> None:
    seen = sight(None, (slot(OLD, "ac"),), NOW, lost_after_s=10)
    assert is_worth_saying(None, seen, NOW, report_period_s=30)
    said = replace(seen, said_at=NOW)
    assert not is_worth_saying(said, said, NOW + timedelta(seconds=29), report_period_s=30)
    assert is_worth_saying(said, said, NOW + timedelta(seconds=30), report_period_s=30)
    changed = replace(said, state=DeviceState.TRIAL)
    assert is_worth_saying(said, changed, NOW + timedelta(seconds=1), report_period_s=30)


def test_a_board_that_never_answered_is_said_to_be_lost_in_time() -> None:
    silent = sight(None, None, NOW, lost_after_s=10)
    assert silent.state is DeviceState.LOST
    assert not is_worth_saying(None, silent, NOW, report_period_s=30)
    assert is_worth_saying(silent, silent, NOW + timedelta(seconds=30), report_period_s=30)
