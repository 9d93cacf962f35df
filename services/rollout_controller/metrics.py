"""What the rollout controller measures beside what the runtime does."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.rollout_controller.domain import Project, TargetState
from shared.events.device import DeviceState

ROLLOUT_DEVICES: Final = Gauge(
    "edgeloop_rollout_devices", "Devices of the rollout under way, by how far it got with them", ("project", "state")
)
ROLLOUT_STAGE: Final = Gauge(
    "edgeloop_rollout_stage", "Stage of the rollout under way, counted from 1; 0: none is under way", ("project",)
)
FLEET_DEVICES: Final = Gauge("edgeloop_fleet_devices", "Devices by their last observed state", ("project", "state"))
ROLLOUTS: Final = Counter("edgeloop_rollouts_total", "Rollouts by how they ended", ("project", "outcome"))


def show(project: Project) -> None:
    """Set the gauges to the project's state."""
    active = project.active
    targets = [] if active is None else [target.state for target in active.targets.values()]
    for state in TargetState:
        ROLLOUT_DEVICES.labels(project.name, state).set(targets.count(state))
    ROLLOUT_STAGE.labels(project.name).set(0 if active is None else active.stage + 1)
    devices = [device.state for device in project.devices.values()]
    for seen in DeviceState:
        FLEET_DEVICES.labels(project.name, seen).set(devices.count(seen))
    for rollout in project.ended:
        ROLLOUTS.labels(project.name, rollout.phase).inc()
