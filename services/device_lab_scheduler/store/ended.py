"""What has ended: jobs, and the documents of their results."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from services.device_lab_scheduler.domain.records import JobRecord
from services.device_lab_scheduler.results import Found
from services.device_lab_scheduler.store._tables import documents, jobs
from services.device_lab_scheduler.store.books import JOB
from shared.lab.messages import JobState


def ended_job(tx: Connection, name: str) -> JobRecord | None:
    """Return the job of that id if it has ended."""
    wanted = select(jobs.c.body).where(jobs.c.name == name, jobs.c.state == str(JobState.ENDED))
    body = tx.scalar(wanted)
    return None if body is None else JOB.validate_json(body)


def ended_jobs(tx: Connection, project: str | None, limit: int) -> list[JobRecord]:
    """Return those that were submitted last, newest first."""
    wanted = select(jobs.c.body).where(jobs.c.state == str(JobState.ENDED))
    if project is not None:
        wanted = wanted.where(jobs.c.project == project)
    newest = wanted.order_by(jobs.c.submitted_s.desc(), jobs.c.name.desc()).limit(limit)
    return [JOB.validate_json(body) for body in tx.scalars(newest)]


def keep_document(tx: Connection, job: JobRecord, found: Found, document: bytes) -> None:
    """Keep the document of what one demand of a job came to, unless the same work was judged before."""
    known = select(documents.c.job).where(documents.c.job == job.id, documents.c.demand == found.demand)
    if tx.scalar(known) is not None:
        return
    row = {
        "job": job.id,
        "demand": found.demand,
        "project": job.job.project,
        "board": found.board,
        "kind": found.result.board,
        "finished_s": job.ended_s,
        "document": document,
    }
    tx.execute(documents.insert().values(row))


def result_documents(tx: Connection, project: str | None, board: str | None, limit: int) -> Sequence[bytes]:
    """Return documents, newest first. `board`: by its own name, or by its name in the catalogue."""
    wanted = select(documents.c.document)
    if project is not None:
        wanted = wanted.where(documents.c.project == project)
    if board is not None:
        wanted = wanted.where((documents.c.board == board) | (documents.c.kind == board))
    newest = wanted.order_by(documents.c.finished_s.desc(), documents.c.job.desc(), documents.c.demand.desc())
    found: Iterable[bytes] = tx.scalars(newest.limit(limit))
    return [bytes(document) for document in found]
