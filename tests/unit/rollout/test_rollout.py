"""Rollouts, event by event."""

from datetime import timedelta

import pytest

from services.rollout_controller.domain import Image, StageRule, TargetState, observe_device, observe_install
from shared.events.device import DeviceState, InstallOutcome
from shared.events.rollout import (
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)
from tests.unit.rollout.world import BOARDS, FACTORY, STAGES, World, board_of, candidate_of, digest_of, image_of


@pytest.fixture
def world() -> World:
    world = World()
    world.join(24)
    return world


def test_a_release_goes_through_every_stage_to_the_whole_fleet(world: World) -> None:
    world.accept(candidate_of(1))
    world.obey()
    assert world.types() == ["RolloutStarted", *["RolloutStageCompleted"] * 3, "RolloutSucceeded"]
    started, succeeded = world.last(RolloutStarted), world.last(RolloutSucceeded)
    assert [len(stage.devices) for stage in started.stages] == [2, 4, 18]
    assert succeeded.devices == 24
    assert {image.digest for image in world.boards.values()} == {digest_of(1)}
    assert world.state.active is None


def test_only_the_stage_under_way_is_ordered(world: World) -> None:
    world.accept(candidate_of(1))
    canary = world.last(RolloutStarted).stages[0]
    assert {order.device for order in world.orders} == set(canary.devices)
    world.answer(world.open_orders()[0])
    world.wait(30)
    assert {order.device for order in world.orders} == set(canary.devices)


def test_canaries_cover_different_boards_and_are_the_same_every_time(world: World) -> None:
    world.accept(candidate_of(1))
    world.obey()
    world.accept(candidate_of(2))
    first, second = (payload.stages[0].devices for payload in world.said if isinstance(payload, RolloutStarted))
    assert first == second
    assert len({board_of(device) for device in first}) == 2


def test_devices_that_no_stage_reaches_follow_in_a_last_one(world: World) -> None:
    world.accept(candidate_of(1, stages=(StageRule("canary", devices=3),)))
    stages = world.last(RolloutStarted).stages
    assert [(stage.name, len(stage.devices)) for stage in stages] == [("canary", 3), ("all", 21)]


def test_a_board_without_firmware_is_left_alone(world: World) -> None:
    world.accept(candidate_of(1, boards=BOARDS[:2]))
    world.obey()
    assert world.last(RolloutSucceeded).devices == 16
    assert all(board_of(order.device) != BOARDS[2] for order in world.orders)


def test_the_same_release_again_succeeds_at_once_without_an_installation(world: World) -> None:
    world.accept(candidate_of(1))
    world.obey()
    ordered = len(world.orders)
    world.accept(candidate_of(1, attempt=1, stages=(StageRule("canary", devices=2, soak_s=600), *STAGES[1:])))
    assert len(world.orders) == ordered
    assert world.types()[-5:] == ["RolloutStarted", *["RolloutStageCompleted"] * 3, "RolloutSucceeded"]
    assert world.last(RolloutSucceeded).rollout_id == candidate_of(1, attempt=1).rollout_id


def test_verified_without_the_wanted_digest_observed_is_no_evidence(world: World) -> None:
    world.accept(candidate_of(1))
    for order in world.open_orders():
        lie = world.answer_of(order, InstallOutcome.VERIFIED)
        assert lie.observed is None
        world.apply(observe_install(world.state, lie, world.now, world.now))
    world.wait(30)
    assert "RolloutStageCompleted" not in world.types()


def test_an_unconfirmed_trial_is_no_evidence(world: World) -> None:
    world.accept(candidate_of(1))
    for order in world.open_orders():
        world.boards[order.device] = order.image
        world.report(order.device, DeviceState.TRIAL)
    assert "RolloutStageCompleted" not in world.types()
    for order in world.open_orders():
        world.report(order.device)
    assert world.types().count("RolloutStageCompleted") == 1


def test_no_data_never_promotes_and_silence_becomes_a_loss(world: World) -> None:
    world.accept(candidate_of(1))
    world.wait(69)
    assert world.types() == ["RolloutStarted"]
    world.wait(2)
    failed = world.last(RolloutFailed)
    assert failed.stage == "canary"
    assert "no answer within 60 s" in failed.reason
    assert failed.rolling_back == failed.failed_devices


def test_a_stage_soaks_before_the_next_begins(world: World) -> None:
    world.accept(candidate_of(1, stages=(StageRule("canary", devices=2, soak_s=20), *STAGES[1:])))
    world.obey()
    world.wait(19)
    assert "RolloutStageCompleted" not in world.types()
    world.wait(1)
    assert world.types().count("RolloutStageCompleted") == 1


def test_a_device_that_leaves_the_release_during_the_soak_fails_the_rollout(world: World) -> None:
    world.accept(candidate_of(1, stages=(StageRule("canary", devices=2, soak_s=20), *STAGES[1:])))
    world.obey()
    device = world.orders[0].device
    world.wait(5)
    world.boards[device] = FACTORY
    world.report(device)
    failed = world.last(RolloutFailed)
    assert failed.failed_devices == (device,)
    assert device not in failed.rolling_back, "it is already where a rollback would bring it"
    assert len(failed.rolling_back) == 1


def test_a_device_out_of_reach_during_the_soak_holds_the_stage_until_it_is_back(world: World) -> None:
    world.accept(candidate_of(1, stages=(StageRule("canary", devices=2, soak_s=20), *STAGES[1:])))
    world.obey()
    device = world.orders[0].device
    world.wait(5)
    world.report(device, DeviceState.LOST)
    world.wait(40)
    assert world.types() == ["RolloutStarted"]
    world.report(device)
    world.wait(20)
    assert world.types().count("RolloutStageCompleted") == 1


def test_one_failure_within_the_budget_is_left_out(world: World) -> None:
    world.accept(candidate_of(1, budget=0.06))
    while len(world.open_orders()) != 18:
        world.answer(world.open_orders()[0])
    world.answer(world.open_orders()[0], InstallOutcome.REVERTED)
    world.obey()
    completed = world.last(RolloutStageCompleted)
    assert (completed.verified, completed.failed) == (17, 1)
    assert completed.failure_rate_bound == pytest.approx(0.238, abs=1e-3)
    assert world.last(RolloutSucceeded).devices == 23


def test_a_failed_canary_stops_everything_and_brings_the_fleet_back(world: World) -> None:
    world.accept(candidate_of(1))
    world.obey()
    world.accept(candidate_of(2))
    good, bad = world.open_orders()
    world.answer(good)
    world.answer(bad, InstallOutcome.REVERTED)
    failed = world.last(RolloutFailed)
    assert failed.failed_devices == (bad.device,)
    assert failed.rolling_back == (good.device,)
    back = world.orders[-1]
    assert (back.device, back.image.is_same(image_of(1, board_of(good.device)))) == (good.device, True)
    world.answer(back)
    rolled_back = world.last(RolloutRolledBack)
    assert set(rolled_back.restored) == {good.device, bad.device}
    assert {image.digest for image in world.boards.values()} == {digest_of(1)}


def test_devices_still_installing_when_it_fails_are_ordered_back_too(world: World) -> None:
    world.accept(candidate_of(1))
    silent, bad = world.open_orders()
    world.answer(bad, InstallOutcome.REVERTED)
    back = world.orders[-1]
    assert (back.device, back.image, back.token) == (silent.device, FACTORY, silent.token + 1)
    world.answer(silent)
    assert "RolloutRolledBack" not in world.types(), "the late end of the old order is not the end of the new one"
    world.answer(back)
    assert set(world.last(RolloutRolledBack).restored) == {silent.device, bad.device}


def test_a_device_that_cannot_be_brought_back_is_named(world: World) -> None:
    world.accept(candidate_of(1))
    silent, bad = world.open_orders()
    world.answer(bad, InstallOutcome.REVERTED)
    world.wait(5 * 80)
    rolled_back = world.last(RolloutRolledBack)
    assert (rolled_back.restored, rolled_back.lost) == ((bad.device,), (silent.device,))


def test_a_device_that_defers_is_asked_again_with_a_new_token(world: World) -> None:
    world.accept(candidate_of(1))
    first, _ = world.open_orders()
    world.answer(first, InstallOutcome.DEFERRED)
    world.wait(11)
    again = world.orders[-1]
    assert (again.device, again.token) == (first.device, first.token + 1)
    world.obey()
    assert world.types()[-1] == "RolloutSucceeded"


def test_a_device_that_refuses_is_asked_three_times_and_blocks_its_stage_meanwhile(world: World) -> None:
    world.accept(candidate_of(1))
    stubborn = world.open_orders()[0].device
    for _ in range(3):
        order = next(order for order in world.open_orders() if order.device == stubborn)
        for other in world.open_orders():
            if other.device != stubborn:
                world.answer(other)
        assert "RolloutStageCompleted" not in world.types()
        world.answer(order, InstallOutcome.REFUSED)
        world.wait(11)
    failed = world.last(RolloutFailed)
    assert "1 refused of 2 devices" in failed.reason
    assert "refused for a reason" in failed.reason
    assert stubborn not in failed.rolling_back


def test_a_newer_release_supersedes_the_one_under_way(world: World) -> None:
    world.accept(candidate_of(1))
    in_flight = world.open_orders()[0]
    world.accept(candidate_of(2))
    superseded = world.last(RolloutSuperseded)
    assert (superseded.digest, superseded.by) == (digest_of(1), digest_of(2))
    newer = next(order for order in world.open_orders() if order.device == in_flight.device)
    assert newer.token > in_flight.token
    world.answer(in_flight)
    assert world.state.active is not None
    assert world.state.active.targets[in_flight.device].previous == Image(digest_of(1), in_flight.image.image_hash)
    world.obey()
    assert world.types()[-1] == "RolloutSucceeded"
    assert {image.digest for image in world.boards.values()} == {digest_of(2)}


def test_a_release_accepted_during_a_rollback_waits_for_its_end(world: World) -> None:
    world.accept(candidate_of(1))
    world.answer(world.open_orders()[0], InstallOutcome.REVERTED)
    world.accept(candidate_of(2))
    assert world.types() == ["RolloutStarted", "RolloutFailed"]
    world.obey()
    assert world.types()[2:4] == ["RolloutRolledBack", "RolloutStarted"]
    assert world.types()[-1] == "RolloutSucceeded"


def test_the_same_release_again_waits_for_the_rollout_under_way(world: World) -> None:
    world.accept(candidate_of(1))
    world.accept(candidate_of(1, attempt=1))
    world.accept(candidate_of(1, attempt=1))
    assert world.types() == ["RolloutStarted"]
    world.obey()
    assert world.types().count("RolloutSucceeded") == 2
    assert len(world.orders) == 24


def test_a_release_waits_for_a_fleet_and_plans_it_when_it_is_complete() -> None:
    world = World()
    world.accept(candidate_of(1))
    world.wait(100)
    assert world.said == []
    world.join(6)
    assert sum(len(stage.devices) for stage in world.last(RolloutStarted).stages) == 6


def test_a_device_that_joins_during_a_rollout_gets_a_late_stage(world: World) -> None:
    world.accept(candidate_of(1))
    world.join(2)
    world.obey()
    assert world.last(RolloutStageCompleted).stage == "late"
    assert world.last(RolloutSucceeded).devices == 26
    assert world.types().count("RolloutSucceeded") == 1


def test_a_device_that_joins_after_success_gets_a_rollout_of_its_own(world: World) -> None:
    world.accept(candidate_of(1))
    world.obey()
    world.join(1)
    world.obey()
    started, succeeded = world.last(RolloutStarted), world.last(RolloutSucceeded)
    assert [(stage.name, stage.devices) for stage in started.stages] == [("late", ("watch-24",))]
    assert succeeded.rollout_id == started.rollout_id != candidate_of(1).rollout_id
    world.report("watch-24")
    world.wait(10)
    assert world.types()[-1] == "RolloutSucceeded"


def test_a_late_device_that_fails_brings_back_only_itself(world: World) -> None:
    world.accept(candidate_of(1))
    world.obey()
    world.join(1)
    world.wait(71)
    assert world.last(RolloutFailed).rolling_back == ("watch-24",)
    world.obey()
    assert world.last(RolloutRolledBack).restored == ("watch-24",)
    world.report("watch-24")
    world.wait(10)
    assert world.types()[-1] == "RolloutRolledBack", "the same device is not tried for ever"


def test_devices_out_of_reach_are_not_planned_and_come_later(world: World) -> None:
    world.report("watch-3", DeviceState.LOST)
    world.accept(candidate_of(1))
    world.obey()
    assert world.last(RolloutSucceeded).devices == 23
    world.wait(30)
    world.report("watch-3")
    world.wait(5)
    world.obey()
    assert world.boards["watch-3"].digest == digest_of(1)


def test_an_older_report_that_arrives_late_changes_nothing(world: World) -> None:
    world.accept(candidate_of(1))
    before = world.report_of(world.orders[0].device)
    world.now += timedelta(seconds=3)
    world.obey()
    state = world.state
    world.apply(observe_device(state, before, world.now))
    assert world.state is state


def test_the_controllers_own_absence_is_nobodys_loss(world: World) -> None:
    world.accept(candidate_of(1))
    world.now += timedelta(hours=1)
    world.wait(1)
    assert world.types() == ["RolloutStarted"]
    world.obey()
    assert world.types()[-1] == "RolloutSucceeded"


def test_a_lost_device_within_the_budget_that_comes_back_counts_as_verified(world: World) -> None:
    stages = (StageRule("all", percent=100, soak_s=300),)
    world.accept(candidate_of(1, stages=stages))
    silent, *others = world.open_orders()
    for order in others:
        world.answer(order)
    world.wait(80)
    assert world.state.active is not None
    assert world.state.active.targets[silent.device].state is TargetState.LOST
    world.answer(silent)
    assert world.state.active.targets[silent.device].state is TargetState.VERIFIED
