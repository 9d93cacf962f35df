"""A lab in which time is a number: jobs are submitted, passes are made, leases end."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.device_lab_scheduler.domain.leasing import grant
from services.device_lab_scheduler.domain.scheduling import Lab, Plan, Policy, Turns, schedule
from shared.events.lab import BoardClass
from shared.lab import Job, LabBoard, Lease, Place
from shared.lab.board import Traits


def board(name: str, kind: str = "cortex-m4", place: str = "rack", **changes: object) -> LabBoard:
    traits = Traits(
        board=kind,
        place=place,
        board_class=BoardClass.EMULATED,
        core=kind,
        clock_hz=100_000_000,
        flash_bytes=1 << 20,
        ram_bytes=256 << 10,
    )
    return replace(LabBoard(name, traits), **changes)  # type: ignore[arg-type]


@dataclass
class World:
    """Runs jobs that take exactly what `lasts` says, or their limit."""

    boards: Sequence[LabBoard]
    policy: Policy
    dead: Sequence[str] = ()
    lasts: dict[str, float] = field(default_factory=dict)
    now_s: float = 0.0
    waiting: list[Job] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)
    started_s: dict[str, float] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)

    def lab(self) -> Lab:
        places = {board.traits.place for board in self.boards}
        live = [Place(name, -1e9 if name in self.dead else self.now_s) for name in sorted(places)]
        return Lab(self.boards, live, list(self.leases.values()), self.waiting, self.turns, self.policy)

    def step(self) -> Plan:
        plan = schedule(self.lab(), self.now_s)
        self.plans.append(plan)
        self.turns = plan.turns
        for lease in plan.preempt:
            self.end(lease.job)
        for start in plan.starts:
            for lease in grant(start, "test", self.tokens, self.now_s, self.policy):
                assert lease.board not in self.leases, "two holders"
                self.leases[lease.board] = lease
                self.tokens[lease.board] = lease.token
            assert start.job.id not in self.started_s
            self.started_s[start.job.id] = self.now_s
        gone = {start.job.id for start in plan.starts}
        self.waiting = [job for job in self.waiting if job.id not in gone]
        return plan

    def end(self, job: str) -> None:
        self.leases = {name: lease for name, lease in self.leases.items() if lease.job != job}

    def run(self, arrivals: Sequence[Job]) -> None:
        """Submit every job at its time, and make a pass at each change until nothing happens any more."""
        events: list[tuple[float, str]] = [(job.submitted_s, "") for job in arrivals]
        heapq.heapify(events)
        coming = sorted(arrivals, key=lambda job: job.submitted_s)
        while events:
            self.now_s, _ = heapq.heappop(events)
            while events and events[0][0] <= self.now_s:
                heapq.heappop(events)
            while coming and coming[0].submitted_s <= self.now_s:
                self.waiting.append(coming.pop(0))
            for lease in list(self.leases.values()):
                if self._ends_s(lease) <= self.now_s:
                    self.leases.pop(lease.board, None)
            plan = self.step()
            for start in plan.starts:
                heapq.heappush(events, (self._ends_s(self.leases[start.boards[0]]), start.job.id))
            if plan.preempt:
                heapq.heappush(events, (self.now_s, ""))

    def _ends_s(self, lease: Lease) -> float:
        return min(lease.granted_s + self.lasts.get(lease.job, 1e9), lease.cap_s + self.policy.grace_s)
