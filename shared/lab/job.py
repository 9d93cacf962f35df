"""What the lab is asked to do."""

from dataclasses import dataclass, field

from shared.events.lab import JobKind
from shared.lab.requirement import ANY, Requirement


@dataclass(frozen=True, slots=True)
class Job:
    """Work for one board, or for several at once.

    Attributes:
        demands: One requirement per board; all are given together or none.
        priority: Orders the jobs of one project among each other.
        limit_s: The longest that its leases last, however often they are renewed.
        avoid: Boards that it must not get: those an attempt of it failed on.
        preempted: How often it was made to leave.
    """

    id: str
    project: str
    kind: JobKind = JobKind.TEST
    demands: tuple[Requirement, ...] = (ANY,)
    priority: int = 0
    submitted_s: float = 0.0
    limit_s: float = 600.0
    avoid: frozenset[str] = field(default=frozenset())
    preempted: int = 0
