"""The tables of the rollout controller, and the project's state in and out of them.

Rows hold what queries need as columns and the rest as JSON: times keep their zone on every database.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    select,
)
from sqlalchemy.exc import IntegrityError

from services.rollout_controller.domain import Candidate, Device, Phase, Project, Rollout, Target
from services.rollout_controller.domain.model import OPEN
from shared.events import Digest
from shared.releases.release import Release

METADATA: Final = MetaData()

_projects = Table(
    "rollout_projects",
    METADATA,
    Column("project", String(63), primary_key=True),
    Column("body", Text, nullable=False),
)
_devices = Table(
    "rollout_devices",
    METADATA,
    Column("project", String(63), primary_key=True),
    Column("device", String(63), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("body", Text, nullable=False),
)
_rollouts = Table(
    "rollouts",
    METADATA,
    Column("rollout_id", Uuid, primary_key=True),
    Column("project", String(63), nullable=False, index=True),
    Column("digest", String(71), nullable=False),
    Column("phase", String(16), nullable=False, index=True),
    Column("body", Text, nullable=False),
)
_targets = Table(
    "rollout_targets",
    METADATA,
    Column("rollout_id", Uuid, primary_key=True),
    Column("device", String(63), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("body", Text, nullable=False),
)
_releases = Table(
    "rollout_releases",
    METADATA,
    Column("digest", String(71), primary_key=True),
    Column("index", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class _ProjectBody:
    current: Candidate | None = None
    reached: frozenset[str] = field(default_factory=frozenset)
    ticked_at: datetime | None = None


_PROJECT: Final = TypeAdapter(_ProjectBody)
_DEVICE: Final = TypeAdapter(Device)
_ROLLOUT: Final = TypeAdapter(Rollout)
_TARGET: Final = TypeAdapter(Target)


def open_projects(tx: Connection) -> list[str]:
    """Return the projects that have something going on."""
    phases = [str(phase) for phase in OPEN]
    statement = select(_rollouts.c.project).where(_rollouts.c.phase.in_(phases)).distinct()
    return sorted(tx.scalars(statement))


def load_project(tx: Connection, name: str) -> Project:
    """Return the project's state; until the transaction ends nobody else can load it to change it."""
    body = _PROJECT.validate_json(_locked_row(tx, name))
    rows = tx.execute(select(_devices.c.body).where(_devices.c.project == name)).scalars()
    devices = {device.name: device for device in map(_DEVICE.validate_json, rows)}
    active = pending = None
    for rollout in _open_rollouts(tx, name):
        if rollout.phase is Phase.PENDING:
            pending = rollout
        else:
            active = rollout
    return Project(
        name=name,
        devices=devices,
        active=active,
        pending=pending,
        current=body.current,
        reached=body.reached,
        ticked_at=body.ticked_at,
    )


def _locked_row(tx: Connection, name: str) -> str:
    # FOR UPDATE serialises replicas on PostgreSQL; SQLite has one writer anyway and ignores it.
    locked = select(_projects.c.body).where(_projects.c.project == name).with_for_update()
    body = tx.scalar(locked)
    if body is not None:
        return str(body)
    try:
        with tx.begin_nested():
            tx.execute(_projects.insert().values(project=name, body=_dump(_PROJECT, _ProjectBody())))
    except IntegrityError:
        pass  # another replica has just created it
    return str(tx.scalar(locked))


def _open_rollouts(tx: Connection, name: str) -> Iterable[Rollout]:
    phases = [str(phase) for phase in OPEN]
    statement = select(_rollouts.c.rollout_id, _rollouts.c.body).where(
        _rollouts.c.project == name, _rollouts.c.phase.in_(phases)
    )
    for row in tx.execute(statement).all():
        bodies = tx.scalars(select(_targets.c.body).where(_targets.c.rollout_id == row.rollout_id))
        targets = {target.device: target for target in map(_TARGET.validate_json, bodies)}
        yield replace(_ROLLOUT.validate_json(row.body), targets=targets)


def save_project(tx: Connection, before: Project, after: Project) -> None:
    """Write what differs between `before`, as loaded, and `after`."""
    body_before, body_after = (
        _ProjectBody(project.current, project.reached, project.ticked_at) for project in (before, after)
    )
    if body_after != body_before:
        key = _projects.c.project == after.name
        tx.execute(_projects.update().where(key).values(body=_dump(_PROJECT, body_after)))
    _save_devices(tx, before, after)
    known = {
        rollout.candidate.rollout_id: rollout for rollout in (before.active, before.pending) if rollout is not None
    }
    for rollout in (*after.ended, after.active, after.pending):
        if rollout is not None:
            _save_rollout(tx, after.name, known.get(rollout.candidate.rollout_id), rollout)


def _save_devices(tx: Connection, before: Project, after: Project) -> None:
    changed = {name: device for name, device in after.devices.items() if before.devices.get(name) is not device}
    rows = [
        {"project": after.name, "device": name, "token": device.token, "body": _dump(_DEVICE, device)}
        for name, device in changed.items()
    ]
    _write(tx, _devices, rows, before.devices)


def _save_rollout(tx: Connection, project: str, before: Rollout | None, after: Rollout) -> None:
    if after is before:
        return
    candidate = after.candidate
    values = {
        "digest": candidate.digest,
        "phase": str(after.phase),
        "body": _dump(_ROLLOUT, replace(after, targets={})),
    }
    updated = tx.execute(_rollouts.update().where(_rollouts.c.rollout_id == candidate.rollout_id).values(values))
    if not updated.rowcount:
        tx.execute(_rollouts.insert().values(rollout_id=candidate.rollout_id, project=project, **values))
    known = before.targets if before is not None else {}
    changed = {name: target for name, target in after.targets.items() if known.get(name) is not target}
    rows = [
        {
            "rollout_id": candidate.rollout_id,
            "device": name,
            "state": str(target.state),
            "body": _dump(_TARGET, target),
        }
        for name, target in changed.items()
    ]
    _write(tx, _targets, rows, known)


def _write(tx: Connection, table: Table, rows: Sequence[Mapping[str, object]], known: Collection[str]) -> None:
    """Update the rows whose device is known, insert the others."""
    added = [row for row in rows if row["device"] not in known]
    if added:
        tx.execute(table.insert(), added)
    keys = [column.name for column in table.primary_key]
    changed = [
        {f"key_{name}" if name in keys else name: value for name, value in row.items()}
        for row in rows
        if row["device"] in known
    ]
    if changed:
        of_row = and_(*(table.c[key] == bindparam(f"key_{key}") for key in keys))
        tx.execute(table.update().where(of_row), changed)


def save_release(tx: Connection, digest: Digest, index: bytes) -> None:
    """Keep a release's index: orders, also those that lead back to it, need no object store."""
    if tx.scalar(select(_releases.c.digest).where(_releases.c.digest == digest)) is None:
        tx.execute(_releases.insert().values(digest=digest, index=index))


def load_release(tx: Connection, digest: Digest) -> Release | None:
    """Return a release that was accepted once, or None."""
    index = tx.scalar(select(_releases.c.index).where(_releases.c.digest == digest))
    return None if index is None else _parse_release(bytes(index))


@lru_cache(maxsize=8)
def _parse_release(index: bytes) -> Release:
    return Release.model_validate_json(index)


def _dump(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()
