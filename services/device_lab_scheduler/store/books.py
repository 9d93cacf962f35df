"""The desk's books in SQL: read by whoever holds the lock, and only what is newer than what they know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, Table, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from services.device_lab_scheduler.domain.ledger import Changed, Ledger
from services.device_lab_scheduler.domain.records import BoardRecord, JobRecord, PlaceRecord
from services.device_lab_scheduler.domain.scheduling import Turns
from services.device_lab_scheduler.store._tables import boards, desks, jobs, places
from shared.lab.messages import JobState

_ONE: Final = 1
_TURNS: Final = TypeAdapter(Turns)
_PLACE: Final = TypeAdapter(PlaceRecord)
_BOARD: Final = TypeAdapter(BoardRecord)
JOB: Final = TypeAdapter(JobRecord)


@dataclass(frozen=True, slots=True)
class Leader:
    """Which desk acts, and until when unless it says so again."""

    name: str
    until_s: float


def lock_books(tx: Connection) -> tuple[int, Leader]:
    """Keep everybody else from reading to change; return the version of the books, and who leads.

    FOR UPDATE serialises replicas on PostgreSQL; SQLite has one writer anyway and ignores it.
    """
    row = _desk(tx)
    if row is None:
        try:
            with tx.begin_nested():
                first = {"id": _ONE, "version": 0, "turns": _turns(Turns()), "leader": "", "leads_until": 0.0}
                tx.execute(desks.insert().values(first))
        except IntegrityError:
            pass  # another replica has just created it
        row = _desk(tx)
    assert row is not None
    return row.version, Leader(row.leader, row.leads_until)


def _desk(tx: Connection) -> Row[int, str, float] | None:
    wanted = select(desks.c.version, desks.c.leader, desks.c.leads_until)
    return tx.execute(wanted.where(desks.c.id == _ONE).with_for_update()).one_or_none()


def lead(tx: Connection, leader: Leader) -> None:
    """Write down who leads. To be called with the books locked."""
    tx.execute(update(desks).where(desks.c.id == _ONE).values(leader=leader.name, leads_until=leader.until_s))


def read_books(tx: Connection, ledger: Ledger, version: int) -> None:
    """Bring `ledger` up to `version`."""
    if ledger.version == version:
        return
    known = ledger.version
    ledger.turns = _TURNS.validate_json(tx.scalar(select(desks.c.turns).where(desks.c.id == _ONE)) or "{}")
    for body in _newer(tx, places, known):
        place = _PLACE.validate_json(body)
        ledger.places[place.name] = place
    for body in _newer(tx, boards, known):
        board = _BOARD.validate_json(body)
        ledger.boards[board.name] = board
    for body in _jobs(tx, known):
        job = JOB.validate_json(body)
        ledger.waiting.pop(job.id, None)
        ledger.running.pop(job.id, None)
        ledger.file(job)
    ledger.version, ledger.replan = version, True


def _newer(tx: Connection, table: Table, version: int) -> Iterable[str]:
    return tx.scalars(select(table.c.body).where(table.c.version > version)).all()


def _jobs(tx: Connection, version: int) -> Iterable[str]:
    wanted = select(jobs.c.body).where(jobs.c.version > version).order_by(jobs.c.submitted_s, jobs.c.name)
    if version == 0:  # nothing is known of those that have ended, and nothing need be
        wanted = wanted.where(jobs.c.state != str(JobState.ENDED))
    return tx.scalars(wanted).all()


def write_books(tx: Connection, ledger: Ledger) -> None:
    """Write what has changed, under the next version. To be called with the books locked, in their transaction."""
    changed = ledger.changed
    if not changed:
        return
    version = ledger.version + 1
    turns = {"turns": _turns(ledger.turns)} if changed.turns else {}
    tx.execute(update(desks).where(desks.c.id == _ONE).values(version=version, **turns))
    _write(tx, places, {name: {"body": _text(_PLACE, place)} for name, place in changed.places.items()}, version)
    _write(tx, boards, {name: {"body": _text(_BOARD, board)} for name, board in changed.boards.items()}, version)
    _write(tx, jobs, {name: _job_row(job) for name, job in changed.jobs.items()}, version)
    ledger.version, ledger.changed = version, Changed()


def _job_row(job: JobRecord) -> dict[str, object]:
    return {
        "project": job.job.project,
        "state": str(job.state),
        "submitted_s": job.job.submitted_s,
        "body": _text(JOB, job),
    }


def _write(tx: Connection, table: Table, rows: Mapping[str, Mapping[str, object]], version: int) -> None:
    if not rows:
        return
    known = set[str]()
    names = list(rows)
    for at in range(0, len(names), 500):  # SQLite takes so many parameters
        part = names[at : at + 500]
        known.update(tx.scalars(select(table.c.name).where(table.c.name.in_(part))))
    added = [{"name": name, "version": version, **row} for name, row in rows.items() if name not in known]
    if added:
        tx.execute(table.insert(), added)
    changed = [{"key": name, "version": version, **row} for name, row in rows.items() if name in known]
    if changed:
        columns: dict[str, Any] = {column: bindparam(column) for column in changed[0] if column != "key"}
        tx.execute(table.update().where(table.c.name == bindparam("key")).values(columns), changed)


def _turns(turns: Turns) -> str:
    return _text(_TURNS, replace(turns, finish=dict(turns.finish)))  # JSON knows no read-only view


def _text(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()
