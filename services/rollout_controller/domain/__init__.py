"""Decisions of a staged rollout: pure functions of a project's state, an observation and the time."""

from services.rollout_controller.domain.evidence import failure_rate_bound
from services.rollout_controller.domain.fleet import Device, Image
from services.rollout_controller.domain.machine import (
    accept_release,
    observe_device,
    observe_install,
    pass_time,
    resume,
)
from services.rollout_controller.domain.model import (
    Candidate,
    Decision,
    Order,
    Phase,
    Policy,
    Project,
    Rollout,
    Say,
    Stage,
    StageRule,
    Target,
    TargetState,
)

__all__ = [
    "Candidate",
    "Decision",
    "Device",
    "Image",
    "Order",
    "Phase",
    "Policy",
    "Project",
    "Rollout",
    "Say",
    "Stage",
    "StageRule",
    "Target",
    "TargetState",
    "accept_release",
    "failure_rate_bound",
    "observe_device",
    "observe_install",
    "pass_time",
    "resume",
]
