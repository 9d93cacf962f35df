"""What an operator may turn, in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.device_lab_scheduler.domain.health import HealthPolicy
from services.device_lab_scheduler.domain.scheduling import Policy
from shared.lab.messages import Work


@dataclass(frozen=True, slots=True)
class Rules:
    """The policies of scheduling and health, and the canaries.

    Attributes:
        canaries: By board of the catalogue. Boards of other kinds are trusted until they misbehave too often.
        canary_limit_s: How long a canary may take.
        canary_retry_s: After the lab itself could not run one.
    """

    policy: Policy = field(default_factory=Policy)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    canaries: Mapping[str, Work] = field(default_factory=lambda: MappingProxyType({}))
    canary_limit_s: float = 120.0
    canary_retry_s: float = 15.0
