"""Releases that are candidates: the verdicts that came in so far, and the results of those that were tested."""

from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    String,
    Table,
    Uuid,
    insert,
    select,
    update,
)

from services.device_lab_scheduler.domain.candidates import NEW, Candidate, Verdict
from services.device_lab_scheduler.store._tables import METADATA
from shared.events.lab import CandidateAccepted, CandidateRefused

_candidates = Table(
    "lab_candidates",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("data", LargeBinary),
    Column("model", LargeBinary),
)
_results = Table(
    "lab_results",
    METADATA,
    Column("digest", String(80), primary_key=True),
    Column("procedure", String(64), primary_key=True),
    Column("accepted", Boolean, nullable=False),
    Column("result", LargeBinary, nullable=False),
)
_VERDICT: Final = TypeAdapter(Verdict)


def load_candidate(tx: Connection, run_id: UUID, digest: str) -> Candidate:
    """Return what is known of the release in that run, and keep other replicas from changing it meanwhile."""
    row = tx.execute(
        select(_candidates.c.data, _candidates.c.model).where(*_is(run_id, digest)).with_for_update()
    ).one_or_none()
    if row is None:
        return NEW
    data, model = (None if verdict is None else _VERDICT.validate_json(verdict) for verdict in row)
    return Candidate(data, model)


def save_candidate(tx: Connection, run_id: UUID, digest: str, candidate: Candidate) -> None:
    """Write `candidate` down.

    Raises:
        sqlalchemy.exc.IntegrityError: another replica began the same candidate at this moment.
    """
    verdicts = {
        "data": None if candidate.data is None else _VERDICT.dump_json(candidate.data),
        "model": None if candidate.model is None else _VERDICT.dump_json(candidate.model),
    }
    if tx.execute(update(_candidates).where(*_is(run_id, digest)).values(verdicts)).rowcount == 0:
        tx.execute(insert(_candidates).values(run_id=run_id, digest=digest, **verdicts))


def find_result(tx: Connection, digest: str, procedure: str) -> CandidateAccepted | CandidateRefused | None:
    """Return what the lab said of that release when it was tested by the same procedure."""
    row = tx.execute(
        select(_results.c.accepted, _results.c.result).where(
            _results.c.digest == digest, _results.c.procedure == procedure
        )
    ).one_or_none()
    if row is None:
        return None
    return (CandidateAccepted if row.accepted else CandidateRefused).model_validate_json(row.result)


def keep_result(tx: Connection, procedure: str, result: CandidateAccepted | CandidateRefused) -> None:
    """Keep a result, unless the same work was done twice at the same time: then the first stays."""
    if find_result(tx, result.digest, procedure) is None:
        tx.execute(
            insert(_results).values(
                digest=result.digest,
                procedure=procedure,
                accepted=isinstance(result, CandidateAccepted),
                result=result.model_dump_json().encode(),
            )
        )


def _is(run_id: UUID, digest: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _candidates.c.run_id == run_id, _candidates.c.digest == digest
