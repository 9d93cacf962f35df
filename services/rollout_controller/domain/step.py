"""One step of the state machine in the making: what can be done to one device, and to a rollout as a whole."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from services.rollout_controller.domain.fleet import Device, Image
from services.rollout_controller.domain.model import (
    Decision,
    Order,
    Phase,
    Policy,
    Project,
    Rollout,
    Say,
    Target,
    TargetState,
)
from shared.events import Payload
from shared.events.device import ORDERS_AT_ONCE, DeviceState, InstallObserved, InstallOutcome

RETRY_S: Final = 10.0
"""How long after a device deferred or refused it is asked again."""
REFUSALS: Final = 3
"""After so many a device is left out, and counts against the budget like a failure."""
ROLLBACK_ATTEMPTS: Final = 5
"""After so many orders without success a device is given up."""
ANSWER_GRACE_S: Final = 10.0
"""A gateway notices a silent device first, and says more about it than the controller could."""


class Step:
    """A working copy of a project's state, and the decisions made on it so far."""

    def __init__(self, project: Project, now: datetime) -> None:
        self.project = project
        self.now = now
        self.decisions: list[Decision] = []

    @property
    def active(self) -> Rollout:
        """The rollout that runs or rolls back."""
        assert self.project.active is not None, "only asked for while a rollout is active"
        return self.project.active

    @property
    def policy(self) -> Policy:
        """The active rollout's policy."""
        return self.active.candidate.policy

    def running(self) -> bool:
        """Tell whether a rollout is on its way forward."""
        return self.project.active is not None and self.project.active.phase is Phase.RUNNING

    def is_current(self, rollout: Rollout) -> bool:
        """Tell whether the rollout brings what an earlier one has already brought to the fleet."""
        return self.project.current is not None and self.project.current.digest == rollout.candidate.digest

    def target(self, device: str) -> Target | None:
        """Return the device's part in the active rollout."""
        return None if self.project.active is None else self.project.active.targets.get(device)

    def answers(self, target: Target, observed: InstallObserved) -> bool:
        """Tell whether `observed` is the end of the newest order to the target."""
        return (
            target.token > 0
            and observed.fencing_token == target.token
            and observed.rollout_id == self.active.candidate.rollout_id
        )

    def put(self, target: Target) -> None:
        """Replace a target."""
        self.set_active(replace(self.active, targets={**self.active.targets, target.device: target}))

    def set_active(self, rollout: Rollout) -> None:
        """Replace the active rollout."""
        self.project = replace(self.project, active=rollout)

    def end(self, rollout: Rollout, phase: Phase) -> None:
        """Take a rollout that is over out of the way."""
        project = self.project
        active = None if project.active is rollout else project.active
        pending = None if project.pending is rollout else project.pending
        ended = (*project.ended, replace(rollout, phase=phase))
        self.project = replace(project, active=active, pending=pending, ended=ended)

    def say(self, rollout: Rollout, payload: Payload) -> None:
        """Publish in the rollout's pipeline run."""
        self.decisions.append(Say(rollout.candidate.run_id, payload))

    def names(self, rollout: Rollout) -> dict[str, Any]:
        """Return the fields that every event about a rollout has."""
        candidate = rollout.candidate
        return {"project": self.project.name, "rollout_id": candidate.rollout_id, "digest": candidate.digest}

    def verify(self, target: Target) -> None:
        """Count the device as observed running the release."""
        self.put(replace(target, state=TargetState.VERIFIED, due_at=None, detail=""))

    def watch(self, target: Target, detail: str) -> None:
        """Give a verified device that went silent the time of an installation to come back."""
        due = self.after(self.policy.install_deadline_s)
        self.put(replace(target, state=TargetState.ORDERED, due_at=due, detail=detail))

    def retry(self, target: Target, detail: str) -> None:
        """Ask the device again later."""
        self.put(replace(target, state=TargetState.RETRYING, due_at=self.after(RETRY_S), detail=detail))

    def refuse(self, target: Target, detail: str) -> None:
        """Ask the device again later, or leave it out after its last refusal."""
        target = replace(target, refusals=target.refusals + 1)
        if target.refusals < REFUSALS:
            self.retry(target, detail)
        else:
            self.put(replace(target, state=TargetState.REFUSED, due_at=None, detail=detail))

    def order(self, target: Target) -> None:
        """Order the release onto the device."""
        device = self.project.devices[target.device]
        previous = device.previous if target.wanted.is_same(device.confirmed) else device.confirmed
        token = self._issue(device, target.wanted)
        due = self._answer_due(device)
        self.put(replace(target, state=TargetState.ORDERED, previous=previous, token=token, due_at=due, detail=""))

    def restore(self, target: Target) -> None:
        """Order the previous image onto the device, unless that was tried often enough."""
        assert target.previous is not None, "only devices with somewhere to go back to are restored"
        if target.attempts >= ROLLBACK_ATTEMPTS:
            self.put(replace(target, state=TargetState.UNRESTORED, due_at=None))
            return
        device = self.project.devices[target.device]
        token = self._issue(device, target.previous)
        due = self._answer_due(device)
        attempts = target.attempts + 1
        self.put(replace(target, state=TargetState.RESTORING, token=token, due_at=due, attempts=attempts))

    def restore_later(self, target: Target, detail: str) -> None:
        """Repeat the order back after a while."""
        self.put(replace(target, due_at=self.after(RETRY_S), detail=detail))

    def _answer_due(self, device: Device) -> datetime:
        """Return when silence becomes a loss: the deadline, once for every round of orders queued at the gateway."""
        queued = sum(
            target.state in {TargetState.ORDERED, TargetState.RESTORING}
            and self.project.devices[target.device].gateway == device.gateway
            for target in self.active.targets.values()
        )
        rounds = 1 + queued // ORDERS_AT_ONCE
        return self.after(rounds * self.policy.install_deadline_s + ANSWER_GRACE_S)

    def _issue(self, device: Device, image: Image) -> int:
        device = replace(device, token=device.token + 1)
        self.project = replace(self.project, devices={**self.project.devices, device.name: device})
        candidate = self.active.candidate
        self.decisions.append(
            Order(
                run_id=candidate.run_id,
                rollout_id=candidate.rollout_id,
                device=device.name,
                gateway=device.gateway,
                board=device.board,
                image=image,
                token=device.token,
                deadline_s=candidate.policy.install_deadline_s,
            )
        )
        return device.token

    def after(self, seconds: float) -> datetime:
        """Return the time in so many seconds."""
        return self.now + timedelta(seconds=seconds)

    def since(self, then: datetime | None) -> float:
        """Return the seconds that have passed, 0 when it has not begun."""
        return 0.0 if then is None else max(0.0, (self.now - then).total_seconds())


def proves(observed: InstallObserved, image: Image) -> bool:
    """Tell whether `observed` shows `image` running, confirmed."""
    return (
        observed.outcome is InstallOutcome.VERIFIED
        and observed.confirmed
        and (image.digest is None or observed.observed == image.digest)
        and observed.observed_hash.lower() == image.image_hash
    )


def eligible(rollout: Rollout, device: Device) -> bool:
    """Tell whether the release can go to the device: a firmware for its board, something to go back to, in reach."""
    return (
        device.board in rollout.candidate.firmware
        and device.confirmed is not None
        and device.state is not DeviceState.LOST
        and (rollout.only is None or device.name in rollout.only)
    )


def names_of(targets: Iterable[Target]) -> tuple[str, ...]:
    """Return the devices' names, sorted."""
    return tuple(sorted(target.device for target in targets))
