"""The tables of the drift monitor. Telemetry stays only until its window was judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    select,
)

from services.drift_monitor.domain import Memory, Production, Report, Tracker
from shared.events import Blob, Digest
from shared.releases.release import HISTOGRAM_BINS

METADATA: Final = MetaData()

_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")
"""A fleet of 100,000 devices uses up 32 bits in two weeks. SQLite counts only in an INTEGER, which has 64."""

_cohorts = Table(
    "drift_cohorts",
    METADATA,
    Column("project", String(63), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("closed", Boolean, nullable=False),
    Column("body", Text, nullable=False),
)
_reports = Table(
    "drift_reports",
    METADATA,
    Column("id", _NUMBER, primary_key=True),
    Column("project", String(63), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("device", String(63), nullable=False),
    Column("inferences", Integer, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("classes", LargeBinary, nullable=False),
    Index("drift_reports_cohort", "project", "digest", "id"),
)
_devices = Table(
    "drift_devices",
    METADATA,
    Column("project", String(63), primary_key=True),
    Column("device", String(63), primary_key=True),
    Column("body", Text, nullable=False),
)
_datasets = Table(
    "drift_datasets",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("project", String(63), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("project", "digest"),
)
_requests = Table(
    "drift_requests",
    METADATA,
    Column("project", String(63), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("production", String(64), primary_key=True),
    Column("body", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Cohort:
    """The devices of a project that run one release."""

    tracker: Tracker = field(default_factory=Tracker)
    requested: frozenset[Digest] = frozenset()
    """Production data named by requests for this release."""
    closed: bool = False
    """Another release took its place: what the last devices on it still say is of no interest."""


_COHORT: Final = TypeAdapter(Cohort)
_MEMORY: Final = TypeAdapter(Memory)
_PRODUCTION: Final = TypeAdapter(Production)
_BLOBS: Final = TypeAdapter(tuple[Blob, ...])


def load_cohort(tx: Connection, project: str, digest: Digest) -> Cohort:
    """Return the cohort, new or known; until the transaction ends no other replica can change it."""
    # FOR UPDATE serialises replicas on PostgreSQL; SQLite has one writer anyway and ignores it.
    body = tx.scalar(select(_cohorts.c.body).where(*_is_cohort(project, digest)).with_for_update())
    return Cohort() if body is None else _COHORT.validate_json(body)


def save_cohort(tx: Connection, project: str, digest: Digest, cohort: Cohort) -> None:
    """Write the cohort."""
    values = {"closed": cohort.closed, "body": _dump(_COHORT, cohort)}
    if not tx.execute(_cohorts.update().where(*_is_cohort(project, digest)).values(values)).rowcount:
        tx.execute(_cohorts.insert().values(project=project, digest=digest, **values))


def open_cohorts(tx: Connection, project: str) -> list[Digest]:
    """Return the releases of a project that are still looked at."""
    statement = select(_cohorts.c.digest).where(_cohorts.c.project == project, _cohorts.c.closed.is_(False))
    return sorted(tx.scalars(statement))


def add_reports(tx: Connection, project: str, digest: Digest, reports: Sequence[Report]) -> None:
    """Append to the cohort's window."""
    rows = [
        {
            "project": project,
            "digest": digest,
            "device": report.device,
            "inferences": report.inferences,
            "inputs": report.inputs.astype("<i8").tobytes(),
            "classes": report.classes.astype("<i8").tobytes(),
        }
        for report in reports
    ]
    if rows:
        tx.execute(_reports.insert(), rows)


def load_reports(tx: Connection, project: str, digest: Digest) -> tuple[list[int], list[Report]]:
    """Return the cohort's window, oldest first, with its row ids."""
    rows = tx.execute(
        select(_reports).where(_reports.c.project == project, _reports.c.digest == digest).order_by(_reports.c.id)
    ).all()
    reports = [
        Report(
            device=row.device,
            inferences=row.inferences,
            inputs=np.frombuffer(row.inputs, "<i8").reshape(-1, HISTOGRAM_BINS),
            classes=np.frombuffer(row.classes, "<i8"),
        )
        for row in rows
    ]
    return [row.id for row in rows], reports


def forget_reports(tx: Connection, project: str, digest: Digest, *, up_to: int | None = None) -> None:
    """Delete the cohort's window, or its oldest part."""
    statement = delete(_reports).where(_reports.c.project == project, _reports.c.digest == digest)
    tx.execute(statement if up_to is None else statement.where(_reports.c.id <= up_to))


def load_memories(tx: Connection, project: str, devices: Sequence[str]) -> dict[str, Memory]:
    """Return what is remembered of the devices, locked as cohorts are; those never heard of are left out."""
    rows = tx.execute(
        select(_devices.c.device, _devices.c.body)
        .where(_devices.c.project == project, _devices.c.device.in_(devices))
        .order_by(_devices.c.device)
        .with_for_update()
    ).all()
    return {row.device: _MEMORY.validate_json(row.body) for row in rows}


def save_memories(tx: Connection, project: str, memories: Mapping[str, Memory], known: Mapping[str, Memory]) -> None:
    """Write what is remembered of devices; `known` are those that have a row."""
    rows = [
        {"of_project": project, "of_device": device, "body": _dump(_MEMORY, memory)}
        for device, memory in memories.items()
    ]
    added = [row for row in rows if row["of_device"] not in known]
    if added:
        tx.execute(_devices.insert().values(project=bindparam("of_project"), device=bindparam("of_device")), added)
    changed = [row for row in rows if row["of_device"] in known]
    if changed:
        of_row = (_devices.c.project == bindparam("of_project"), _devices.c.device == bindparam("of_device"))
        tx.execute(_devices.update().where(*of_row), changed)


def add_production(tx: Connection, project: str, production: Production) -> None:
    """Remember labelled data; the same file twice counts once."""
    digest = production.blob.digest
    known = select(_datasets.c.id).where(_datasets.c.project == project, _datasets.c.digest == digest)
    if tx.scalar(known) is None:
        body = _dump(_PRODUCTION, production)
        tx.execute(_datasets.insert().values(project=project, digest=digest, body=body))


def load_production(tx: Connection, project: str) -> list[Production]:
    """Return the project's labelled data in the order of arrival."""
    bodies = tx.scalars(select(_datasets.c.body).where(_datasets.c.project == project).order_by(_datasets.c.id))
    return [_PRODUCTION.validate_json(body) for body in bodies]


def add_request(tx: Connection, project: str, digest: Digest, production: tuple[Blob, ...]) -> bool:
    """Write down that a retraining is asked for; False when exactly this one was asked for before."""
    key = sha256("\n".join(sorted(blob.digest for blob in production)).encode()).hexdigest()
    same = (_requests.c.project == project, _requests.c.digest == digest, _requests.c.production == key)
    if tx.scalar(select(_requests.c.digest).where(*same)) is not None:
        return False
    body = _dump(_BLOBS, production)
    tx.execute(_requests.insert().values(project=project, digest=digest, production=key, body=body))
    return True


def _is_cohort(project: str, digest: Digest) -> tuple[Any, ...]:
    return _cohorts.c.project == project, _cohorts.c.digest == digest


def _dump(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()
