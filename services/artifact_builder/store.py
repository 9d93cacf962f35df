"""What is remembered: of a whole build the release, of each stage the digests of what it gave, by key."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import JSON, Column, Connection, DateTime, MetaData, String, Table, delete, insert, select

METADATA = MetaData()

BUILDS = Table(
    "builds",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("project", String(63), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("built_at", DateTime(timezone=True), nullable=False),
)

STAGES = Table(
    "stages",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("stage", String(32), nullable=False),
    Column("project", String(63), nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=False),
)


def remembered(tx: Connection, key: str) -> str | None:
    """Return the digest of the release that was built with `key`."""
    return tx.execute(select(BUILDS.c.digest).where(BUILDS.c.key == key)).scalar_one_or_none()


def remember(tx: Connection, key: str, *, digest: str, project: str, commit: str) -> None:
    """Remember a build; doing it twice is doing it once."""
    forget(tx, key)
    row = {"key": key, "digest": digest, "project": project, "commit": commit, "built_at": datetime.now(UTC)}
    tx.execute(insert(BUILDS).values(row))


def forget(tx: Connection, key: str) -> None:
    """Forget a build, because its release is no longer in the object store."""
    tx.execute(delete(BUILDS).where(BUILDS.c.key == key))


def stage_outputs(tx: Connection, key: str) -> dict[str, str] | None:
    """Return what the stage with `key` gave: digests by name."""
    found: dict[str, str] | None = tx.execute(select(STAGES.c.outputs).where(STAGES.c.key == key)).scalar_one_or_none()
    return found


def remember_stage(tx: Connection, key: str, *, outputs: Mapping[str, str], stage: str, project: str) -> None:
    """Remember what a stage gave; doing it twice is doing it once."""
    forget_stage(tx, key)
    row = {"key": key, "stage": stage, "project": project, "outputs": dict(outputs), "ended_at": datetime.now(UTC)}
    tx.execute(insert(STAGES).values(row))


def forget_stage(tx: Connection, key: str) -> None:
    """Forget a stage, because what it gave is no longer in the object store."""
    tx.execute(delete(STAGES).where(STAGES.c.key == key))
