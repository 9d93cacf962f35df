"""The desk's books: everything it knows of what goes on, and what of it has changed since it was last written down."""

from dataclasses import dataclass, field, replace
from typing import Final

from services.device_lab_scheduler.domain.records import BoardRecord, JobRecord, PlaceRecord, Try
from services.device_lab_scheduler.domain.scheduling import Turns
from shared.events.lab import LabBoardHealthChanged
from shared.lab import Lease
from shared.lab.messages import JobState

LAB: Final = "lab"
"""Stands for the project in what concerns boards, and in leases of the desk's own."""


@dataclass
class Changed:
    """Records that differ from their rows."""

    turns: bool = False
    places: dict[str, PlaceRecord] = field(default_factory=dict)
    boards: dict[str, BoardRecord] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.turns or self.places or self.boards or self.jobs)


@dataclass
class Ledger:
    """Records by name. `put_*` is the only way to change one.

    Attributes:
        version: Of the rows that it was read from.
        waiting: Jobs without boards, `running`: jobs with boards; who has ended is in neither.
        changed: What is to be written, by name.
        ended: Jobs that end with what is written next.
        said: Events that are put out with it.
        replan: Something changed that a scheduling pass has to look at.
    """

    version: int = 0
    turns: Turns = field(default_factory=Turns)
    places: dict[str, PlaceRecord] = field(default_factory=dict)
    boards: dict[str, BoardRecord] = field(default_factory=dict)
    waiting: dict[str, JobRecord] = field(default_factory=dict)
    running: dict[str, JobRecord] = field(default_factory=dict)
    changed: Changed = field(default_factory=Changed)
    ended: list[JobRecord] = field(default_factory=list)
    said: list[LabBoardHealthChanged] = field(default_factory=list)
    replan: bool = True

    def put_turns(self, turns: Turns) -> None:
        """Keep the accounts of fair queueing."""
        if turns != self.turns:
            self.turns, self.changed.turns = turns, True

    def put_place(self, place: PlaceRecord) -> None:
        """Keep a place."""
        self.places[place.name] = self.changed.places[place.name] = place

    def put_board(self, board: BoardRecord) -> None:
        """Keep a board, and say so when its health is another."""
        before = self.boards.get(board.name)
        if board == before:
            return
        self.boards[board.name] = self.changed.boards[board.name] = board
        self.replan = self.replan or before is None or _matters(before) != _matters(board)
        if before is None or before.record.health is not board.record.health:
            self.said.append(
                LabBoardHealthChanged(
                    project=LAB,
                    board=board.name,
                    place=board.place,
                    before=None if before is None else before.record.health,
                    health=board.record.health,
                    reason=board.record.reason,
                )
            )

    def put_job(self, job: JobRecord) -> None:
        """Keep a job where its state says that it belongs."""
        before = self.job(job.id)
        if job == before:
            return
        self.replan = self.replan or before is None or before.state is not job.state
        self.waiting.pop(job.id, None)
        self.running.pop(job.id, None)
        self.file(job)
        self.changed.jobs[job.id] = job
        if job.state is JobState.ENDED:
            self.ended.append(job)

    def file(self, job: JobRecord) -> None:
        """Put a job where its state says, as it is."""
        if job.state is JobState.WAITING:
            self.waiting[job.id] = job
        elif job.state is JobState.RUNNING:
            self.running[job.id] = job

    def put_try(self, job: JobRecord, attempt: Try) -> JobRecord:
        """Keep one of the tries that go on, and return the job with it."""
        now = tuple(attempt if one.demand == attempt.demand else one for one in job.now)
        changed = replace(job, now=now)
        self.put_job(changed)
        return changed

    def job(self, name: str) -> JobRecord | None:
        """Return a job that has not ended."""
        return self.waiting.get(name) or self.running.get(name)

    def held(self) -> list[BoardRecord]:
        """Return the boards that somebody holds."""
        return [board for board in self.boards.values() if board.held is not None]

    def leases(self) -> list[Lease]:
        """Return every lease."""
        return [board.held.lease for board in self.boards.values() if board.held is not None]

    def tokens(self) -> dict[str, int]:
        """Return the highest token ever given, by board."""
        return {name: board.token for name, board in self.boards.items()}

    def at(self, place: str) -> list[BoardRecord]:
        """Return the boards of a place."""
        return [board for board in self.boards.values() if board.place == place]


def _matters(board: BoardRecord) -> object:
    """Return what of a board a scheduling pass looks at."""
    lease = board.held and board.held.lease
    return board.present, board.place, board.record, lease and (lease.token, lease.cap_s, lease.flashing)
