"""The desk: every operation is one transaction over the books; what places do is asked between transactions.

Nothing is awaited inside a transaction, so that the ledger in memory changes at once or not at all. It belongs to a
version of the books: another desk's changes are read before anything is decided.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from services.device_lab_scheduler.domain.health import Seen
from services.device_lab_scheduler.domain.leasing import renew
from services.device_lab_scheduler.domain.ledger import Ledger
from services.device_lab_scheduler.domain.passing import live_places
from services.device_lab_scheduler.domain.records import BoardRecord, JobRecord
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.running import Ending, end, ended_on
from services.device_lab_scheduler.domain.telling import announced, told
from services.device_lab_scheduler.links import PlaceLink, PlaceSilentError
from services.device_lab_scheduler.metrics import count_end
from services.device_lab_scheduler.results import Document, results_of
from services.device_lab_scheduler.store import (
    Leader,
    ended_job,
    ended_jobs,
    keep_document,
    lock_books,
    read_books,
    result_documents,
    write_books,
)
from services.device_lab_scheduler.views import Outlook
from shared.bus.exchanges import RefusedError
from shared.events import derived_id
from shared.events.lab import LabJobEnded
from shared.lab import AttemptOutcome, Job, LeaseLostError, RequirementError, VerdictKind, parse_requirement
from shared.lab.messages import (
    Announced,
    AskBoards,
    AskHistory,
    AskJobs,
    Boards,
    BoardView,
    Cancel,
    Done,
    Grant,
    HealthAction,
    HeldBoard,
    History,
    Jobs,
    JobView,
    RefusalKind,
    Release,
    Renew,
    SetHealth,
    Submit,
)
from shared.runtime.service import Unit

_BY_ACTION: Final = {
    HealthAction.TAKE_OUT: Seen.TAKEN_OUT,
    HealthAction.BRING_BACK: Seen.BROUGHT_BACK,
    HealthAction.RETIRE: Seen.RETIRED,
}


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger, open for writing."""

    unit: Unit
    ledger: Ledger
    leader: Leader


class Desk:
    """What clients ask, and what `step` needs to act. Refusals are RefusedError."""

    def __init__(
        self,
        open_unit: Callable[[], AbstractAsyncContextManager[Unit]],
        link: PlaceLink,
        rules: Rules,
        *,
        clock: Callable[[], float],
        document: Document,
    ) -> None:
        """Args: open_unit: begins a transaction; clock: seconds since the epoch; document: writes a result down."""
        self.name: Final = uuid4().hex
        self.rules: Final = rules
        self.link: Final = link
        self.clock: Final = clock
        self.seen: dict[str, float] = {}
        self.changed: Callable[[], None] = lambda: None
        self._open_unit, self._document = open_unit, document
        self.ends = asyncio.Event()
        self._ledger = Ledger()
        self._announced: dict[str, Announced] = {}

    @asynccontextmanager
    async def books(self) -> AsyncIterator[Books]:
        """Open the books in a transaction, and write down what the block changes. Nothing may be awaited in it."""
        ledger = self._ledger
        try:
            async with self._open_unit() as unit:
                ledger = self._ledger
                version, leader = lock_books(unit.tx)
                read_books(unit.tx, ledger, version)
                yield Books(unit, ledger, leader)
                wrote, ends = bool(ledger.changed), bool(ledger.ended)
                self._write(unit, ledger)
        except BaseException:
            # What is in memory may not be what was written: it is read again.
            if ledger.changed or ledger.ended or ledger.said or self._ledger is not ledger:
                self._ledger = Ledger()
            raise
        if wrote:
            self.changed()
        if ends:
            self.ends.set()
            self.ends = asyncio.Event()

    def _write(self, unit: Unit, ledger: Ledger) -> None:
        for number, said in enumerate(ledger.said):
            cause = derived_id("lab-board", said.board, ledger.version + 1, number)
            unit.emit([said], cause, derived_id("lab-board", said.board))
        for job in ledger.ended:
            cause = derived_id("lab-job", job.id)
            event = _event(job)
            unit.emit([event], cause, job.run or cause)
            count_end(event)
            kinds = {name: (board.kind, board.board_class) for name, board in ledger.boards.items()}
            for found in results_of(job, kinds):
                keep_document(unit.tx, job, found, self._document(found.result))
        ledger.said, ledger.ended = [], []
        write_books(unit.tx, ledger)

    def outlook(self, ledger: Ledger) -> Outlook:
        """Return what views are made with."""
        now_s = self.clock()
        return Outlook(ledger, self.rules, live_places(self.seen, self.rules, now_s), now_s)

    # ---- what places say -------------------------------------------------------------------------------------------

    async def announced(self, said: Announced) -> list[str]:
        """Note that a place is alive, and what it has in hand. Return what is wrong with that."""
        self.seen[said.place] = self.clock()
        if self._announced.get(said.place) == said:
            return []
        async with self.books() as books:
            wrong = announced(books.ledger, self.rules, said, self.clock())
        if not wrong:
            self._announced[said.place] = said
        self.changed()
        return wrong

    # ---- what clients ask ------------------------------------------------------------------------------------------

    async def submit(self, asked: Submit) -> JobView:
        """Queue a job, once."""
        record = self._read(asked)
        async with self.books() as books:
            known = books.ledger.job(asked.id) or ended_job(books.unit.tx, asked.id)
            if known is None:
                books.ledger.put_job(record)
            elif _order(known) != _order(record):
                raise RefusedError(
                    RefusalKind.CONFLICT, f"job {asked.id} is there and asks for something else. Next: take another id"
                )
            return self.outlook(books.ledger).job(known or record)

    def _read(self, asked: Submit) -> JobRecord:
        if len(asked.work) not in (0, len(asked.demands)):
            found = f"{len(asked.work)} pieces of work for {len(asked.demands)} boards"
            raise RefusedError(RefusalKind.BAD_REQUEST, f"job {asked.id}: {found}; allowed is one for each, or none")
        try:
            demands = tuple(map(parse_requirement, asked.demands))
        except RequirementError as error:
            raise RefusedError(RefusalKind.BAD_REQUEST, f"job {asked.id}: {error}") from error
        job = Job(
            asked.id,
            asked.project,
            asked.kind,
            demands,
            asked.priority,
            submitted_s=self.clock(),
            limit_s=asked.limit_s,
        )
        return JobRecord(job, holder=asked.holder, run=asked.run, work=asked.work)

    async def cancel(self, asked: Cancel) -> Done:
        """End a job, wherever it is."""
        async with self.books() as books:
            job = books.ledger.job(asked.id)
            if job is not None:
                end(books.ledger, job, VerdictKind.INFRASTRUCTURE, asked.reason, self.clock())
            elif ended_job(books.unit.tx, asked.id) is None:
                raise RefusedError(RefusalKind.UNKNOWN, f"no job {asked.id!r}. Next: `edgeloop lab jobs` lists them")
        return Done()

    async def renew(self, asked: Renew) -> HeldBoard:
        """Give a holder more time. In force when this returns."""
        async with self.books() as books:
            board = self._board(books.ledger, asked.board)
            now_s = self.clock()
            lease = None if board.held is None or board.held.over else board.held.lease
            try:
                lease = renew(lease, board.name, asked.token, now_s, self.rules.policy)
            except LeaseLostError as error:
                raise RefusedError(RefusalKind.STALE_TOKEN, str(error)) from error
            assert board.held is not None
            books.ledger.put_board(replace(board, held=replace(board.held, lease=lease)))
            epoch = books.ledger.places[board.place].epoch
        grant = Grant(board=board.name, token=asked.token, ttl_s=lease.deadline_s - now_s)
        try:
            await self.link.grant(board.place, grant)
        except PlaceSilentError as error:
            raise RefusedError(RefusalKind.LAB, f"{error}. Next: renew again") from error
        async with self.books() as books:
            told(books.ledger, grant, lease.deadline_s, epoch)
            held = books.ledger.boards[board.name].held
            if held is None or held.over or held.lease.token != asked.token:
                said = f"{board.name}: the lease with token {asked.token} ended meanwhile. Next: submit the job again"
                raise RefusedError(RefusalKind.STALE_TOKEN, said)
            return self.outlook(books.ledger).lease(board.place, held.lease)

    async def release(self, asked: Release) -> Done:
        """Take a board back. Given back by its holder, a person's job has passed."""
        async with self.books() as books:
            board = self._board(books.ledger, asked.board)
            held = board.held
            if held is None or held.over or held.lease.token != asked.token:
                if asked.token <= board.token:
                    return Done()  # it was given back before
                raise RefusedError(RefusalKind.STALE_TOKEN, f"{board.name}: token {asked.token} was never given")
            if held.work is not None:
                said = f"{board.name}: a program works on it. Next: cancel job {held.lease.job}"
                raise RefusedError(RefusalKind.CONFLICT, said)
            ended_on(books.ledger, self.rules, board.name, Ending(AttemptOutcome.PASSED), self.clock())
        return Done()

    async def set_health(self, asked: SetHealth) -> BoardView:
        """Do what an operator says. Who brings a board back vouches for what it says it is."""
        async with self.books() as books:
            board = self._board(books.ledger, asked.board)
            if asked.action is HealthAction.BRING_BACK:
                board = replace(board, identity=board.found or board.identity, canary_not_before_s=0.0)
            board = board.seen(_BY_ACTION[asked.action], self.clock(), self.rules.health, asked.reason)
            books.ledger.put_board(board)
            return self.outlook(books.ledger).board(board)

    async def boards(self, _asked: AskBoards) -> Boards:
        """Return every board."""
        async with self.books() as books:
            outlook = self.outlook(books.ledger)
            return Boards(boards=tuple(outlook.board(board) for _, board in sorted(books.ledger.boards.items())))

    async def jobs(self, asked: AskJobs) -> Jobs:
        """Return jobs, newest first."""
        async with self.books() as books:
            ledger, outlook = books.ledger, self.outlook(books.ledger)
            waiting = len(ledger.waiting)
            if asked.id is not None:
                job = ledger.job(asked.id) or ended_job(books.unit.tx, asked.id)
                return Jobs(jobs=(outlook.job(job),) if job else (), waiting=waiting)
            records = [*ledger.waiting.values(), *ledger.running.values()]
            if asked.ended:
                records += ended_jobs(books.unit.tx, asked.project, asked.limit)
            wanted = [job for job in records if asked.project in (None, job.job.project)]
            wanted.sort(key=lambda job: (job.job.submitted_s, job.id), reverse=True)
            return Jobs(jobs=tuple(outlook.jobs(wanted[: asked.limit])), waiting=waiting)

    async def history(self, asked: AskHistory) -> History:
        """Return documents of results, newest first."""
        async with self.books() as books:
            found = result_documents(books.unit.tx, asked.project, asked.board, asked.limit)
        return History(results=tuple(document.decode() for document in found))

    async def ended(self, ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return those of the jobs that have ended."""
        async with self.books() as books:
            found = {name: ended_job(books.unit.tx, name) for name in ids if books.ledger.job(name) is None}
        return {name: job for name, job in found.items() if job is not None}

    def _board(self, ledger: Ledger, name: str) -> BoardRecord:
        if name not in ledger.boards:
            raise RefusedError(
                RefusalKind.UNKNOWN,
                f"no board {name!r} among the lab's {len(ledger.boards)}. Next: `edgeloop lab boards` lists them",
            )
        return ledger.boards[name]


def _order(record: JobRecord) -> object:
    """Return what a job asks for, whenever it was asked and whatever came of it."""
    job = record.job
    return job.project, job.kind, job.demands, job.priority, job.limit_s, record.work, record.holder


def _event(job: JobRecord) -> LabJobEnded:
    assert job.verdict is not None, "a job that has ended has a verdict"
    assert job.ended_s is not None, "a job that has ended has a time"
    began_s = min((one.began_s for one in job.tries), default=job.ended_s)
    return LabJobEnded(
        project=job.job.project,
        job=job.id,
        kind=job.job.kind,
        verdict=job.verdict,
        reason=job.reason,
        boards=tuple(one.board for one in job.tries),
        attempts=len(job.tries) // len(job.job.demands),
        waited_s=max(0.0, began_s - job.job.submitted_s),
        ran_s=max(0.0, job.ended_s - began_s),
    )
