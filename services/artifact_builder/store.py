"""Which builds are remembered: a key of everything that went in, and the release that came out."""

from datetime import UTC, datetime

from sqlalchemy import Column, Connection, DateTime, MetaData, String, Table, delete, insert, select

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
