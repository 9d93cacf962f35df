"""Which device gets a release in which stage."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from math import ceil

from services.rollout_controller.domain.fleet import Device
from services.rollout_controller.domain.model import Stage, StageRule

_SALT = "edgeloop-rollout-order"
REST = "all"
"""The stage that takes the devices which the policy's own stages leave out."""


def sticky_rank(project: str, device: str) -> bytes:
    """Return a rank that is the same in every rollout: the same boards are always the canaries."""
    return sha256(f"{project}|{_SALT}|{device}".encode()).digest()


def plan_stages(project: str, rules: Sequence[StageRule], devices: Iterable[Device]) -> tuple[Stage, ...]:
    """Assign every device to exactly one stage; stages that would add nobody are left out.

    Counts and percentages are cumulative. The first stage takes each kind of board once before it takes any
    twice, so that canaries try every image. Whoever no rule reaches follows in a last stage of its own: a
    rollout that has succeeded has reached the whole fleet.
    """
    waiting = sorted(devices, key=lambda device: sticky_rank(project, device.name))
    total = len(waiting)
    stages: list[Stage] = []
    for rule in rules:
        until = rule.devices if rule.devices is not None else ceil(total * (rule.percent or 100.0) / 100.0)
        count = min(total, until) - (total - len(waiting))
        if count <= 0:
            continue
        chosen = (_cover_boards(waiting) if not stages else waiting)[:count]
        stages.append(Stage(rule.name, rule.soak_s, tuple(device.name for device in chosen)))
        taken = set(stages[-1].devices)
        waiting = [device for device in waiting if device.name not in taken]
    if waiting:
        stages.append(Stage(REST, 0.0, tuple(device.name for device in waiting)))
    return tuple(stages)


def _cover_boards(devices: Sequence[Device]) -> list[Device]:
    """Sort so that the first of every board comes before the second of any; otherwise keep the order."""
    seen: dict[str, int] = {}
    turns: list[tuple[int, Device]] = []
    for device in devices:
        turns.append((seen.get(device.board, 0), device))
        seen[device.board] = turns[-1][0] + 1
    return [device for _, device in sorted(turns, key=lambda turn: turn[0])]
