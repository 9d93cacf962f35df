"""What is remembered: of a whole build the release, of each stage the digests of what it gave, by key."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Double,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from services.artifact_builder.caching.eviction import Entry

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
    "stage_cache",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("stage", String(32), nullable=False),
    Column("project", String(63), nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("sizes", JSON, nullable=False),
    Column("made_at_s", Double, nullable=False),
    Column("used_at_s", Double, nullable=False),
)
"""`outputs`: digests by name; `sizes`: bytes by digest. Times are POSIX seconds."""


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


def stage_outputs(tx: Connection, key: str, *, now_s: float) -> dict[str, str] | None:
    """Return what the stage with `key` gave, digests by name, and note that it was used."""
    found: dict[str, str] | None = tx.execute(select(STAGES.c.outputs).where(STAGES.c.key == key)).scalar_one_or_none()
    if found is not None:
        tx.execute(update(STAGES).where(STAGES.c.key == key).values(used_at_s=now_s))
    return found


def remember_stage(
    tx: Connection,
    key: str,
    *,
    outputs: Mapping[str, str],
    sizes: Mapping[str, int],
    stage: str,
    project: str,
    now_s: float,
) -> None:
    """Remember what a stage gave; doing it twice is doing it once."""
    forget_stage(tx, key)
    row = {"key": key, "stage": stage, "project": project, "made_at_s": now_s, "used_at_s": now_s}
    tx.execute(insert(STAGES).values({**row, "outputs": dict(outputs), "sizes": dict(sizes)}))


def forget_stage(tx: Connection, key: str) -> None:
    """Forget a stage, because what it gave is no longer in the object store."""
    tx.execute(delete(STAGES).where(STAGES.c.key == key))


def cached_stages(tx: Connection) -> list[Entry]:
    """Return what is remembered of all stages."""
    rows = tx.execute(select(STAGES.c.key, STAGES.c.made_at_s, STAGES.c.used_at_s, STAGES.c.sizes))
    return [Entry(*row) for row in rows]


def evict(tx: Connection, entries: Iterable[Entry]) -> None:
    """Forget stages, but for those that another replica used since they were read."""
    for entry in entries:
        tx.execute(delete(STAGES).where(STAGES.c.key == entry.key, STAGES.c.used_at_s == entry.used_at_s))
