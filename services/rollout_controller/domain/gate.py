"""When a rollout begins, when a stage is done, when it has failed, and how it ends.

A stage has one gate beside the failure budget: every device so far was observed running the release, confirmed.
Devices that failed or refused within the budget are left out; silence is never a success.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from services.rollout_controller.domain.evidence import failure_rate_bound
from services.rollout_controller.domain.model import (
    FAILED,
    LEFT_OUT,
    SETTLED,
    Candidate,
    Phase,
    Rollout,
    Stage,
    Target,
    TargetState,
)
from services.rollout_controller.domain.plan import plan_stages
from services.rollout_controller.domain.step import Step, eligible, names_of
from shared.events import Digest, derived_id
from shared.events.device import DeviceState
from shared.events.rollout import (
    PlannedStage,
    RolloutFailed,
    RolloutRolledBack,
    RolloutStageCompleted,
    RolloutStarted,
    RolloutSucceeded,
    RolloutSuperseded,
)

FLEET_QUIET_S: Final = 3.0
"""A fleet that is just being discovered is planned when nobody new came for this long."""
LATE: Final = "late"
"""The stage of devices that joined after the plan was made."""


def conclude(step: Step) -> None:
    """Draw every conclusion that the state allows."""
    while _conclude_one(step):
        pass


def _conclude_one(step: Step) -> bool:
    active = step.project.active
    if active is None:
        return _begin(step)
    if active.phase is Phase.ROLLING_BACK:
        return _end_rollback(step, active)
    return _fail_over_budget(step, active) or _complete_stage(step, active)


def enqueue(step: Step, candidate: Candidate) -> None:
    """Let `candidate` take the place of what it makes obsolete, or wait for what it must not interrupt."""
    pending, active = step.project.pending, step.project.active
    if pending is not None:
        supersede(step, pending, candidate.digest)
    if active is not None and active.phase is Phase.RUNNING and active.candidate.digest != candidate.digest:
        supersede(step, active, candidate.digest)
    step.project = replace(step.project, pending=Rollout(candidate))


def supersede(step: Step, rollout: Rollout, by: Digest) -> None:
    """End a rollout because of a newer release; devices in flight finish, and get the newer order in their stage."""
    # Late devices that were still being gathered are simply part of the newer release's fleet.
    if rollout.only is None or rollout.phase is Phase.RUNNING:
        step.say(rollout, RolloutSuperseded(**step.names(rollout), by=by))
    step.end(rollout, Phase.SUPERSEDED)


def admit_late_devices(step: Step) -> None:
    """Bring devices that no plan foresaw to the release, in a stage of their own."""
    project = step.project
    if project.active is not None:
        if project.active.phase is Phase.RUNNING:
            _append_late_stage(step, project.active)
        return
    if project.current is None or project.pending is not None:
        return
    rollout = Rollout(project.current)
    late = frozenset(
        device.name
        for device in project.devices.values()
        if device.name not in project.reached and eligible(rollout, device)
    )
    if late:
        rollout_id = derived_id("late", project.current.rollout_id, *sorted(late))
        step.project = replace(project, pending=Rollout(replace(project.current, rollout_id=rollout_id), only=late))


def _append_late_stage(step: Step, active: Rollout) -> None:
    late = sorted(
        device.name
        for device in step.project.devices.values()
        if device.name not in active.targets and eligible(active, device)
    )
    if not late:
        return
    stages = list(active.stages)
    if stages[-1].name == LATE and active.stage < len(stages) - 1:
        stages[-1] = replace(stages[-1], devices=(*stages[-1].devices, *late))
    else:
        stages.append(Stage(LATE, 0.0, tuple(late)))
    added = {
        name: Target(name, len(stages) - 1, active.candidate.firmware[step.project.devices[name].board])
        for name in late
    }
    if step.is_current(active):
        step.project = replace(step.project, reached=step.project.reached.union(added))
    step.set_active(replace(active, stages=tuple(stages), targets={**active.targets, **added}))


def _begin(step: Step) -> bool:
    pending = step.project.pending
    if pending is None:
        return False
    devices = [device for device in step.project.devices.values() if eligible(pending, device)]
    quiet_since = step.now - timedelta(seconds=FLEET_QUIET_S)
    if not devices or max(device.joined_at for device in devices) > quiet_since:
        return False
    if pending.only is None:
        stages = plan_stages(step.project.name, pending.candidate.policy.stages, devices)
    else:
        stages = (Stage(LATE, 0.0, tuple(sorted(device.name for device in devices))),)
    targets = {
        name: Target(name, index, pending.candidate.firmware[step.project.devices[name].board])
        for index, stage in enumerate(stages)
        for name in stage.devices
    }
    started = replace(pending, phase=Phase.RUNNING, stages=stages, targets=targets, started_at=step.now)
    step.project = replace(step.project, pending=None, active=started, ticked_at=step.now)
    if step.is_current(started):
        step.project = replace(step.project, reached=step.project.reached.union(targets))
    planned = tuple(PlannedStage(name=stage.name, devices=stage.devices) for stage in stages)
    step.say(started, RolloutStarted(**step.names(started), stages=planned))
    _begin_stage(step, 0)
    return True


def _begin_stage(step: Step, index: int) -> None:
    step.set_active(replace(step.active, stage=index, stage_started_at=step.now, settled_at=None))
    for name in step.active.stages[index].devices:
        target = step.active.targets[name]
        device = step.project.devices[name]
        if device.runs(target.wanted):
            step.verify(replace(target, previous=device.previous))
        else:
            step.order(target)


def _fail_over_budget(step: Step, active: Rollout) -> bool:
    for index, stage in enumerate(active.stages[: active.stage + 1]):
        # A handful of late devices is no sample of its own: they spend the budget of the whole rollout.
        names = tuple(active.targets) if stage.name == LATE and index > 0 else stage.devices
        guilty = [active.targets[name] for name in names if active.targets[name].state in LEFT_OUT]
        if len(guilty) > step.policy.failure_budget * len(names):
            _fail(step, active, stage, _reason(active, stage, guilty, len(names)))
            return True
    return False


def _reason(active: Rollout, stage: Stage, guilty: list[Target], devices: int) -> str:
    counts = {state: sum(target.state is state for target in guilty) for state in TargetState}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    first = next((f"; {target.device}: {target.detail}" for target in guilty if target.detail), "")
    share = active.candidate.policy.failure_budget
    return f"stage {stage.name}: {said} of {devices} devices, the failure budget is {share:.0%}{first}"


def _fail(step: Step, active: Rollout, stage: Stage, reason: str) -> None:
    targets = active.targets.values()
    exposed = [target for target in targets if _exposed(step, active, target)]
    failed = names_of(target for target in targets if target.state in LEFT_OUT)
    step.say(
        active,
        RolloutFailed(
            **step.names(active),
            stage=stage.name,
            reason=reason,
            failed_devices=failed,
            rolling_back=names_of(exposed),
        ),
    )
    step.set_active(replace(active, phase=Phase.ROLLING_BACK))
    for target in targets:
        if target in exposed:
            step.restore(target)
        elif target.state is TargetState.REVERTED:
            step.put(replace(target, state=TargetState.RESTORED))
        elif target.state is TargetState.LOST:
            step.put(replace(target, state=TargetState.UNRESTORED))


def _exposed(step: Step, active: Rollout, target: Target) -> bool:
    """Tell whether the device runs or may run the release, and an earlier success does not justify that."""
    if target.previous is None:
        return False
    if target.state is TargetState.REVERTED:
        device = step.project.devices[target.device]
        return not (device.state is DeviceState.CONFIRMED and target.previous.is_same(device.confirmed))
    if target.state not in {TargetState.ORDERED, TargetState.VERIFIED, TargetState.LOST}:
        return False
    return target.token > 0 or not step.is_current(active)


def _complete_stage(step: Step, active: Rollout) -> bool:
    so_far = [target for target in active.targets.values() if target.stage <= active.stage]
    if any(target.state not in SETTLED for target in so_far):
        if active.settled_at is not None:
            step.set_active(replace(active, settled_at=None))
        return False
    settled_at = active.settled_at or step.now
    stage = active.stages[active.stage]
    targets = [active.targets[name] for name in stage.devices]
    # Where nothing was installed there is nothing to watch.
    soak_s = stage.soak_s if any(target.token for target in targets) else 0.0
    active = replace(active, settled_at=settled_at)
    step.set_active(active)
    if step.now < settled_at + timedelta(seconds=soak_s):
        return False
    step.say(active, _stage_completed(step, active, stage, targets))
    if active.stage + 1 < len(active.stages):
        _begin_stage(step, active.stage + 1)
    else:
        _succeed(step, active)
    return True


def _stage_completed(step: Step, active: Rollout, stage: Stage, targets: list[Target]) -> RolloutStageCompleted:
    verified = sum(target.state is TargetState.VERIFIED for target in targets)
    failed = sum(target.state in FAILED for target in targets)
    return RolloutStageCompleted(
        **step.names(active),
        stage=stage.name,
        verified=verified,
        failed=failed,
        seconds=step.since(active.stage_started_at),
        failure_rate_bound=failure_rate_bound(failed, verified + failed),
    )


def _succeed(step: Step, active: Rollout) -> None:
    verified = sum(target.state is TargetState.VERIFIED for target in active.targets.values())
    seconds = step.since(active.started_at)
    step.say(active, RolloutSucceeded(**step.names(active), devices=verified, seconds=seconds))
    reached = frozenset(active.targets) | (step.project.reached if step.is_current(active) else frozenset())
    step.project = replace(step.project, current=active.candidate, reached=reached)
    step.end(active, Phase.SUCCEEDED)


def _end_rollback(step: Step, active: Rollout) -> bool:
    targets = active.targets.values()
    if any(target.state is TargetState.RESTORING for target in targets):
        return False
    restored = names_of(target for target in targets if target.state is TargetState.RESTORED)
    lost = names_of(target for target in targets if target.state is TargetState.UNRESTORED)
    step.say(active, RolloutRolledBack(**step.names(active), restored=restored, lost=lost))
    step.end(active, Phase.ROLLED_BACK)
    return True
