"""The state machine of a project's rollouts.

Each public function takes the project's state, one observation and the time, and returns the next state with the
decisions made. Nothing here reads a clock, waits or writes.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from services.rollout_controller.domain.fleet import Device, learn_install, learn_report
from services.rollout_controller.domain.gate import admit_late_devices, conclude, enqueue
from services.rollout_controller.domain.model import (
    Candidate,
    Decision,
    Project,
    Target,
    TargetState,
)
from services.rollout_controller.domain.step import Step, proves
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome

Outcome: TypeAlias = tuple[Project, list[Decision]]

LONGEST_TICK_GAP_S: Final = 5.0
"""A longer silence of the clock was the controller's own absence: no device is blamed for it."""
REDELIVERY_S: Final = 45.0
"""After a crash the bus delivers again what was in the controller's hands, but only after its 30 s of patience."""


def accept_release(project: Project, candidate: Candidate, now: datetime) -> Outcome:
    """Send `candidate` to the fleet: at once, or after the rollout that it must not interrupt.

    It supersedes what runs, except a rollout of the same release and a rollback: for their end it waits.
    """
    step = Step(project, now)
    if any(
        rollout is not None and rollout.candidate.rollout_id == candidate.rollout_id
        for rollout in (project.active, project.pending)
    ):
        return project, []
    enqueue(step, candidate)
    return _finish(step)


def observe_device(project: Project, report: DeviceReported, now: datetime) -> Outcome:
    """Learn what a device runs; a report older than what is known changes nothing."""
    device = learn_report(project.devices.get(report.device), report, now)
    if device is None:
        return project, []
    step = Step(replace(project, devices={**project.devices, device.name: device}), now)
    target = step.target(device.name)
    if target is not None and step.running():
        _judge_report(step, target, device)
    return _finish(step)


def _judge_report(step: Step, target: Target, device: Device) -> None:
    if device.runs(target.wanted):
        if target.state not in {TargetState.WAITING, TargetState.VERIFIED}:
            step.verify(target)
        return
    if target.state is TargetState.VERIFIED:
        if device.state is DeviceState.LOST:
            step.watch(target, "out of reach since it was verified")
        elif device.state is DeviceState.CONFIRMED:
            step.put(replace(target, state=TargetState.REVERTED, due_at=None, detail="left the release again"))
    else:
        _note_previous(step, target, device)


def _note_previous(step: Step, target: Target, device: Device) -> None:
    # An order of a superseded rollout may still land first: it is then what a rollback returns to.
    if target.state is TargetState.ORDERED and not target.wanted.is_same(device.confirmed):
        step.put(replace(target, previous=device.confirmed))


def observe_install(project: Project, observed: InstallObserved, at: datetime, now: datetime) -> Outcome:
    """Learn how an order ended, by the gateway's clock at `at`.

    Orders of other rollouts, or older ones of this rollout, say something about the device but nothing about
    the rollout.
    """
    device = project.devices.get(observed.device)
    if device is None:
        return project, []
    device = learn_install(device, observed, at)
    step = Step(replace(project, devices={**project.devices, device.name: device}), now)
    target = step.target(observed.device)
    if target is None:
        pass
    elif not step.answers(target, observed):
        _note_previous(step, target, device)
    elif target.state is TargetState.RESTORING:
        _judge_restoring(step, target, observed)
    elif step.running():
        _judge_install(step, target, observed)
    return _finish(step)


def _judge_install(step: Step, target: Target, observed: InstallObserved) -> None:
    if target.state is TargetState.VERIFIED:
        _judge_verified_again(step, target, observed)
    if target.state not in {TargetState.ORDERED, TargetState.LOST}:
        return
    match observed.outcome:
        case InstallOutcome.VERIFIED:
            # Without the wanted digest observed and confirmed this is no evidence: the deadline goes on.
            if proves(observed, target.wanted):
                step.verify(target)
        case InstallOutcome.REVERTED:
            step.put(replace(target, state=TargetState.REVERTED, due_at=None, detail=observed.detail))
        case InstallOutcome.LOST:
            step.put(replace(target, state=TargetState.LOST, due_at=None, detail=observed.detail))
        case InstallOutcome.DEFERRED:
            step.retry(target, observed.detail)
        case InstallOutcome.REFUSED:
            step.refuse(target, observed.detail)


def _judge_verified_again(step: Step, target: Target, observed: InstallObserved) -> None:
    # A report can show the confirmed release before the order's own end arrives.
    if observed.outcome is InstallOutcome.REVERTED:
        step.put(replace(target, state=TargetState.REVERTED, due_at=None, detail=observed.detail))
    elif observed.outcome is InstallOutcome.LOST:
        step.watch(target, observed.detail)


def _judge_restoring(step: Step, target: Target, observed: InstallObserved) -> None:
    if target.previous is not None and proves(observed, target.previous):
        step.put(replace(target, state=TargetState.RESTORED, due_at=None, detail=""))
    elif observed.outcome is not InstallOutcome.VERIFIED:
        step.restore_later(target, observed.detail)


def pass_time(project: Project, now: datetime) -> Outcome:
    """Apply deadlines, soak times and retries that are due at `now`."""
    step = Step(replace(_forgive_absence(project, now), ticked_at=now), now)
    if step.project.active is not None:
        for target in list(step.project.active.targets.values()):
            if target.due_at is not None and target.due_at <= now:
                _expire(step, target)
    return _finish(step)


def resume(project: Project, now: datetime) -> Outcome:
    """Apply the time when the controller has just started: answers may still be on their way to it."""
    if project.active is not None:
        earliest = now + timedelta(seconds=REDELIVERY_S)
        targets = {
            name: target if target.due_at is None else replace(target, due_at=max(target.due_at, earliest))
            for name, target in project.active.targets.items()
        }
        project = replace(project, active=replace(project.active, targets=targets))
    return pass_time(project, now)


def _expire(step: Step, target: Target) -> None:
    match target.state:
        case TargetState.ORDERED:
            detail = f"no answer within {step.policy.install_deadline_s:g} s"
            step.put(replace(target, state=TargetState.LOST, due_at=None, detail=target.detail or detail))
        case TargetState.RETRYING:
            step.order(target)
        case TargetState.RESTORING:
            step.restore(target)
        case _:
            pass


def _forgive_absence(project: Project, now: datetime) -> Project:
    if project.ticked_at is None or project.active is None:
        return project
    absent = now - project.ticked_at
    if absent <= timedelta(seconds=LONGEST_TICK_GAP_S):
        return project
    targets = {
        name: target if target.due_at is None else replace(target, due_at=target.due_at + absent)
        for name, target in project.active.targets.items()
    }
    return replace(project, active=replace(project.active, targets=targets))


def _finish(step: Step) -> Outcome:
    admit_late_devices(step)
    conclude(step)
    return step.project, step.decisions
