"""What clients are shown of the desk's books."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.device_lab_scheduler.domain.health import canary_due
from services.device_lab_scheduler.domain.ledger import Ledger
from services.device_lab_scheduler.domain.matching import soonest_set
from services.device_lab_scheduler.domain.records import BoardRecord, JobRecord, Try
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.scheduling import rank, wait_bound_s
from shared.lab import Health, Job, Lease, Requirement
from shared.lab.messages import AttemptView, BoardView, HeldBoard, JobState, JobView


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a view needs beside its record: the time, and which places are alive."""

    ledger: Ledger
    rules: Rules
    live: frozenset[str]
    now_s: float
    _fitting: dict[Requirement, tuple[list[str], list[str]]] = field(default_factory=dict)

    def board(self, board: BoardRecord) -> BoardView:
        """Return a board for people."""
        lease = None if board.held is None or board.held.over else board.held.lease
        return BoardView(
            name=board.name,
            board=board.kind,
            place=board.place,
            board_class=board.board_class,
            identity=board.identity,
            health=board.record.health,
            reason=board.record.reason,
            live=board.present and board.place in self.live,
            canary_due=canary_due(board.record, self.now_s, self.rules.health),
            jobs_since_canary=board.record.jobs,
            job=lease and lease.job,
            project=lease and lease.project,
            holder=lease and lease.holder,
            lease_left_s=lease and lease.deadline_s - self.now_s,
        )

    def held(self, board: BoardRecord) -> HeldBoard | None:
        """Return a lease as its holder needs it; None as long as the board's place has not let them in."""
        place = self.ledger.places.get(board.place)
        held = board.held
        if held is None or held.over or place is None or not held.let_in(place.epoch) or board.place not in self.live:
            return None
        return self.lease(board.place, held.lease)

    def lease(self, place: str, lease: Lease) -> HeldBoard:
        """Return a lease as its holder needs it."""
        return HeldBoard(
            board=lease.board,
            place=place,
            token=lease.token,
            left_s=lease.deadline_s - self.now_s,
            cap_left_s=lease.cap_s - self.now_s,
        )

    def job(self, record: JobRecord) -> JobView:
        """Return one job for people. Where there are several, `jobs` counts the queues once."""
        if record.state is not JobState.WAITING:
            return self._view(record)
        waiting = [one.job for one in self.ledger.waiting.values()]
        mine, place = record.job.project, rank(record.job, self.rules.policy)
        ahead = sum(one.project == mine and rank(one, self.rules.policy) < place for one in waiting)
        return self._view(record, ahead, frozenset(one.project for one in waiting) - {mine})

    def _view(self, record: JobRecord, ahead: int = 0, others: frozenset[str] = frozenset()) -> JobView:
        """Return a job, given how many of its project come before it and which other projects wait."""
        job = record.job
        held = [self.held(self.ledger.boards[one.board]) for one in record.now if one.board in self.ledger.boards]
        waits_for, bound_s = "", None
        if record.state is JobState.WAITING:
            waits_for = self._waits_for(job, ahead)
            if not waits_for.startswith("no live"):
                bound_s = wait_bound_s(self.rules.policy, job.project, others, ahead=ahead)
        elif asking := [one.board for one in record.now if one.asks_canary]:
            waits_for = f"the canary on {', '.join(asking)}: was it the board or the firmware?"
        return JobView(
            id=job.id,
            project=job.project,
            kind=job.kind,
            state=record.state,
            demands=tuple(map(str, job.demands)),
            priority=job.priority,
            age_s=(self.now_s if record.ended_s is None else record.ended_s) - job.submitted_s,
            holder=record.holder,
            held=tuple(one for one in held if one is not None),
            attempts=tuple(_attempt(one) for one in (*record.tries, *record.now) if one.outcome is not None),
            verdict=record.verdict,
            reason=record.reason,
            waits_for=waits_for,
            bound_s=bound_s,
        )

    def jobs(self, records: Sequence[JobRecord]) -> list[JobView]:
        """Return jobs in the same order, each with what it waits for."""
        queues = self._queues()
        ahead = {record.id: place for queue in queues.values() for place, record in enumerate(queue)}
        projects = frozenset(queues)
        return [self._view(one, ahead.get(one.id, 0), projects - {one.job.project}) for one in records]

    def _queues(self) -> Mapping[str, list[JobRecord]]:
        queues: dict[str, list[JobRecord]] = defaultdict(list)
        for record in self.ledger.waiting.values():
            queues[record.job.project].append(record)
        for queue in queues.values():
            queue.sort(key=lambda record: rank(record.job, self.rules.policy))
        return queues

    def _waits_for(self, job: Job, ahead: int) -> str:
        """Say what keeps a job from running. What begins with `no live` may keep it for ever."""
        options = [self._fits(demand) for demand in job.demands]
        if soonest_set([live for live, _ in options], lambda _name: 0.0) is None:
            trouble = Counter(self._trouble(name) for name in {name for _, others in options for name in others})
            found = ", ".join(f"{count} {what}" for what, count in trouble.most_common())
            return f"no live board can serve it: {found or 'the lab has none of that kind'}"
        if self.ledger.turns.holder == job.id:
            return "its boards: they are set aside for it"
        return f"a free board, behind {ahead} of its project" if ahead else "a free board"

    def _fits(self, demand: Requirement) -> tuple[list[str], list[str]]:
        """Return the live boards that meet a demand, and those that would if they were live."""
        if demand not in self._fitting:
            fits = [board.name for board in self.ledger.boards.values() if demand.holds(board.traits)]
            live = [name for name in fits if self._is_live(name)]
            self._fitting[demand] = live, [name for name in fits if name not in live]
        return self._fitting[demand]

    def _is_live(self, name: str) -> bool:
        board = self.ledger.boards[name]
        return board.present and board.place in self.live and board.record.health is Health.GOOD

    def _trouble(self, name: str) -> str:
        board = self.ledger.boards[name]
        if not board.present or board.place not in self.live:
            return f"at {board.place}, which is not heard"
        return str(board.record.health)


def _attempt(one: Try) -> AttemptView:
    assert one.outcome is not None, "only what has ended is shown"
    return AttemptView(
        board=one.board, token=one.token, outcome=one.outcome, canary_passed=one.canary_passed, said=one.said
    )
