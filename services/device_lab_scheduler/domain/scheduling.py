"""Who gets which board next: pure, one pass over the whole lab, called whenever something changed.

Three rules, in this order:

1. **The turn.** One waiting job has the turn. Boards are set aside for it, the set that is free soonest: what is free
   of it takes only jobs that are over before the rest is free (backfill). It starts when all its boards are free, and
   is given none before (all or nothing: nobody holds one board while waiting for another). Then the turn passes on:
   among projects by start-time fair queueing (Goyal, Vin, Cheng 1996) with one unit of service a turn, so that a
   project of weight 2 has the turn twice as often; within a project to its first job.
2. **The rest** of the free boards goes to the project that holds the fewest boards for its weight at this moment.
3. **Within a project**, a job's place is `submitted_s - priority * ageing_s`: a step of priority is worth that much
   waiting, so that an old job is overtaken only by those submitted at most so much later.

**Bounded wait.** Let D be the longest time a lease may last, grace included. A job that live boards can serve, behind
`a` jobs of its own project, starts within

    (2 + a + sum over the other projects r of (floor(w_r / w * (a + 1)) + 1)) * D

of its submission, however many jobs the others submit: `wait_bound_s`. Why: each time the turn is held it ends within
D, because every board set aside is free within D and backfill ends earlier still. In fair queueing another project has
the turn at most floor(w_r / w * (a + 1)) + 1 times before this one has had it a + 1 times. One D more is for the turn
under way. The bound counts on boards that stay good, and on a pass at each change; a benchmark counts in `a` once more
for each time it may be preempted.

**Dead racks.** Boards of a place that was not heard for `place_ttl_s`, or that are not good, do not exist here: a job
that only they could serve never has the turn, and loses it when they go.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf
from types import MappingProxyType
from typing import Final

from services.device_lab_scheduler.domain.matching import soonest_set
from shared.lab import Health, Job, JobKind, LabBoard, Lease, Place, Requirement
from shared.lab.board import Traits

PREEMPTS: Final = frozenset(JobKind) - {JobKind.BENCHMARK}


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may turn.

    Attributes:
        ageing_s: What one step of priority is worth in waiting.
        grace_s: A board is given away only so long after its lease's deadline: clocks differ.
        max_preemptions: A benchmark that had to leave so often stays the next time.
        ttl_s: How long a lease lasts without a renewal.
        longest_s: The cap of every lease, whatever its job asks for.
    """

    ageing_s: float = 600.0
    place_ttl_s: float = 30.0
    grace_s: float = 2.0
    max_preemptions: int = 3
    ttl_s: float = 60.0
    longest_s: float = 3600.0
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def limit_s(self, job: Job) -> float:
        """Return how long the job's leases last at most."""
        return min(job.limit_s, self.longest_s)

    def weight(self, project: str) -> float:
        """Return the share of `project`; 1 where nothing else was said."""
        return self.weights.get(project, 1.0)


@dataclass(frozen=True, slots=True)
class Turns:
    """The accounts of fair queueing, kept from pass to pass.

    Attributes:
        clock: The start tag of the last turn.
        finish: By project, the finish tag of its last turn.
        holder: The job that has the turn and waits for its boards.
    """

    clock: float = 0.0
    finish: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    holder: str | None = None

    def start_tag(self, project: str) -> float:
        """Return when its next turn begins in virtual time: a project that was away has saved up nothing."""
        return max(self.clock, self.finish.get(project, 0.0))

    def taken(self, project: str, weight: float) -> "Turns":
        """Return the accounts after that project had a turn."""
        start = self.start_tag(project)
        # Finish tags below the clock say nothing any more: dropping them keeps this as small as the lab is busy.
        finish = {name: tag for name, tag in self.finish.items() if tag > start} | {project: start + 1 / weight}
        return Turns(start, MappingProxyType(finish), None)


@dataclass(frozen=True, slots=True)
class Lab:
    """Everything a pass looks at."""

    boards: Sequence[LabBoard]
    places: Sequence[Place]
    leases: Sequence[Lease]
    waiting: Sequence[Job]
    turns: Turns = field(default_factory=Turns)
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Start:
    """A job, and its boards in the order of its demands."""

    job: Job
    boards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        preempt: Leases of benchmarks that must end, for the job that has the turn.
        canaries: Free boards whose canary is due, before anything else runs on them; good ones and those in doubt.
        set_aside: Boards that wait for the job with the turn, and until when.
    """

    starts: tuple[Start, ...]
    preempt: tuple[Lease, ...]
    canaries: tuple[str, ...]
    set_aside: Mapping[str, float]
    turns: Turns


def wait_bound_s(policy: Policy, project: str, others: Iterable[str], *, ahead: int) -> float:
    """Return within how many seconds a job starts at the latest; the module's docstring proves it.

    Args:
        policy: The lab's, for the projects' weights.
        project: Whose job it is.
        others: The projects that have jobs waiting meanwhile.
        ahead: Jobs of its own project that come before it.
    """
    own = policy.weight(project)
    turns = sum(floor(policy.weight(other) / own * (ahead + 1)) + 1 for other in others)
    return (2 + ahead + turns) * (policy.longest_s + policy.grace_s)


def rank(job: Job, policy: Policy) -> tuple[float, str]:
    """Return the job's place within its project: lower goes first."""
    return job.submitted_s - job.priority * policy.ageing_s, job.id


def schedule(lab: Lab, now_s: float) -> Plan:
    """Return who starts where, who has to leave, and for whom boards are set aside."""
    return _Pass(lab, now_s).plan()


Shape = tuple[tuple[Requirement, ...], frozenset[str], float]
"""Jobs of equal shape fit the same boards: when one finds no room, neither does the next."""


class _Pass:
    """The workspace of one pass. Boards are indexed by their traits, jobs by project and shape."""

    def __init__(self, lab: Lab, now_s: float) -> None:
        self.lab, self.now_s, self.policy = lab, now_s, lab.policy
        live = {place.name for place in lab.places if now_s - place.seen_s <= lab.policy.place_ttl_s}
        usable = [board for board in lab.boards if board.health is Health.GOOD and board.traits.place in live]
        self.leases = {lease.board: lease for lease in lab.leases}
        self.traits = {board.name: board.traits for board in usable}
        self.canaries = tuple(
            board.name
            for board in lab.boards
            if board.canary_due and board.traits.place in live and board.name not in self.leases
        )
        self.classes: dict[Traits, list[str]] = defaultdict(list)
        self.free: dict[Traits, dict[str, None]] = defaultdict(dict)
        self.free_at = dict.fromkeys(self.traits, now_s)
        for board in sorted(usable, key=lambda board: board.name, reverse=True):
            self.classes[board.traits].append(board.name)
            lease = self.leases.get(board.name)
            if lease is not None:
                self.free_at[board.name] = max(now_s, lease.cap_s + self.policy.grace_s)
            elif not board.canary_due:
                self.free[board.traits][board.name] = None
        self.held: dict[str, int] = defaultdict(int)
        for lease in lab.leases:
            self.held[lease.project] += 1
        self.fitting: dict[Requirement, list[Traits]] = {}
        self.aside: dict[str, float] = {}
        self.starts: list[Start] = []
        self.preempt: tuple[Lease, ...] = ()
        self.turns = lab.turns

    def plan(self) -> Plan:
        queues = self._queues()
        self._turn(queues)
        self._rest(queues)
        return Plan(tuple(self.starts), self.preempt, self.canaries, self.aside, self.turns)

    def _queues(self) -> dict[str, list[Job]]:
        """Return by project the jobs that the live boards could serve, the first one last."""
        possible: dict[tuple[tuple[Requirement, ...], frozenset[str]], bool] = {}
        queues: dict[str, list[Job]] = defaultdict(list)
        for job in self.lab.waiting:
            key = job.demands, job.avoid
            if key not in possible:
                possible[key] = self._possible(job)
            if possible[key]:
                queues[job.project].append(job)
        for queue in queues.values():
            queue.sort(key=lambda job: rank(job, self.policy), reverse=True)
        return queues

    def _turn(self, queues: dict[str, list[Job]]) -> None:
        """Give the turn from job to job until one has to wait for its boards."""
        holder = next((job for job in self._waiting(queues) if job.id == self.lab.turns.holder), None)
        while holder := holder or self._next(queues):
            boards = self._room(holder)
            if boards is None:
                self._set_aside(holder)
                return
            queue = queues[holder.project]
            queue.pop(-1 if queue[-1] is holder else queue.index(holder))
            self._begin(holder, boards)
            self.turns = self.turns.taken(holder.project, self.policy.weight(holder.project))
            holder = None
        self.turns = Turns(self.turns.clock, self.turns.finish, None)

    def _next(self, queues: dict[str, list[Job]]) -> Job | None:
        heads = [queue[-1] for queue in queues.values() if queue]
        return min(heads, key=lambda job: (self.turns.start_tag(job.project), job.submitted_s, job.id), default=None)

    @staticmethod
    def _waiting(queues: Mapping[str, Sequence[Job]]) -> Iterable[Job]:
        return (job for queue in queues.values() for job in queue)

    def _set_aside(self, holder: Job) -> None:
        boards = self._soonest(holder)
        assert boards is not None, "a job that no live board can serve never has the turn"
        leases = [self.leases[board] for board in boards if board in self.leases]
        self.preempt = tuple(lease for lease in leases if self._may_preempt(holder, lease))
        until_s = max((self._available_at(board, holder) for board in boards), default=self.now_s)
        self.aside = dict.fromkeys(boards, until_s)
        self.turns = Turns(self.turns.clock, self.turns.finish, holder.id)

    def _rest(self, queues: dict[str, list[Job]]) -> None:
        """Fill what is free, always from the project that holds least for its weight."""
        full: set[Shape] = set()
        heap = [(self._share(project), project) for project, queue in queues.items() if queue]
        heapq.heapify(heap)
        while heap and any(self.free.values()):
            _, project = heapq.heappop(heap)
            if self._start_one(queues[project], full):
                heapq.heappush(heap, (self._share(project), project))

    def _start_one(self, queue: list[Job], full: set[Shape]) -> bool:
        while queue:
            job = queue.pop()
            shape = job.demands, job.avoid, job.limit_s
            if job.id == self.turns.holder or shape in full:
                continue
            boards = self._room(job)
            if boards is not None:
                self._begin(job, boards)
                return True
            full.add(shape)
        return False

    def _share(self, project: str) -> float:
        return self.held[project] / self.policy.weight(project)

    def _begin(self, job: Job, boards: tuple[str, ...]) -> None:
        for name in boards:
            del self.free[self.traits[name]][name]
            self.free_at[name] = self.now_s + self.policy.limit_s(job) + self.policy.grace_s
        self.held[job.project] += len(boards)
        self.starts.append(Start(job, boards))

    def _fits(self, demand: Requirement) -> list[Traits]:
        """Return the classes of boards that meet `demand`."""
        if demand not in self.fitting:
            self.fitting[demand] = [traits for traits in self.classes if demand.holds(traits)]
        return self.fitting[demand]

    def _room(self, job: Job) -> tuple[str, ...] | None:
        """Return free boards for the whole job, or None."""
        if len(job.demands) == 1:  # by far the most, and without a matching to find
            names = (name for traits in self._fits(job.demands[0]) for name in reversed(self.free[traits]))
            found = next((name for name in names if self._open(name, job)), None)
            return None if found is None else (found,)
        options = [
            [name for traits in self._fits(demand) for name in self.free[traits] if self._open(name, job)]
            for demand in job.demands
        ]
        return soonest_set(options, lambda _name: 0.0)

    def _open(self, name: str, job: Job) -> bool:
        ends_s = self.now_s + self.policy.limit_s(job) + self.policy.grace_s
        return name not in job.avoid and ends_s <= self.aside.get(name, inf)

    def _possible(self, job: Job) -> bool:
        """Tell whether the live boards could serve the job if they were all free."""
        options = self._options(job)
        return all(options) if len(options) == 1 else soonest_set(options, lambda _name: 0.0) is not None

    def _soonest(self, job: Job) -> tuple[str, ...] | None:
        """Return the boards that are all free soonest, held ones included."""
        return soonest_set(self._options(job), lambda name: self._available_at(name, job))

    def _options(self, job: Job) -> list[list[str]]:
        return [
            [name for traits in self._fits(demand) for name in self.classes[traits] if name not in job.avoid]
            for demand in job.demands
        ]

    def _available_at(self, name: str, job: Job) -> float:
        lease = self.leases.get(name)
        if lease is not None and self._may_preempt(job, lease):
            return self.now_s + self.policy.grace_s
        return self.free_at[name]

    def _may_preempt(self, job: Job, lease: Lease) -> bool:
        return job.kind in PREEMPTS and lease.kind is JobKind.BENCHMARK and not lease.flashing and lease.preemptible
