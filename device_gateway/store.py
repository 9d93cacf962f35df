"""What a gateway must not forget: which order a device obeys, what each image is, and telemetry not yet delivered."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from shared.telemetry import DeviceReport, TelemetryBatch

METADATA: Final = MetaData()

_orders = Table(
    "gateway_orders",
    METADATA,
    Column("device", String(63), primary_key=True),
    Column("fencing_token", Integer, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("began_at", String(40), nullable=False),
)
_images = Table(
    "gateway_images",
    METADATA,
    Column("image_hash", String(64), primary_key=True),
    Column("digest", String(71), nullable=False),
)
_cursors = Table(
    "gateway_cursors",
    METADATA,
    Column("device", String(63), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)
_batches = Table(
    "gateway_batches",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # A number is never used twice, not even after the last row was delivered.
)


def admit(tx: Connection, device: str, fencing_token: int, now: datetime) -> tuple[int, int, datetime]:
    """Let an order with the highest token so far take the device.

    Returns:
        The highest token, how many trials were begun under it, and when it was first admitted. An order whose own
        token is lower must be refused.
    """
    row = tx.execute(select(_orders).where(_orders.c.device == device)).one_or_none()
    if row is not None and row.fencing_token >= fencing_token:
        return row.fencing_token, row.trials, datetime.fromisoformat(row.began_at)
    tx.execute(delete(_orders).where(_orders.c.device == device))
    tx.execute(
        insert(_orders).values(
            device=device, fencing_token=fencing_token, trials=0, began_at=now.astimezone(UTC).isoformat()
        )
    )
    return fencing_token, 0, now


def count_trial(tx: Connection, device: str) -> None:
    """Remember that a trial is about to begin."""
    tx.execute(update(_orders).where(_orders.c.device == device).values(trials=_orders.c.trials + 1))


def remember_image(tx: Connection, image_hash: str, digest: str) -> None:
    """Remember which release an image belongs to."""
    tx.execute(delete(_images).where(_images.c.image_hash == image_hash))
    tx.execute(insert(_images).values(image_hash=image_hash, digest=digest))


def digests(tx: Connection) -> dict[str, str]:
    """Return the release digest of every image that was ever ordered, by image hash."""
    return {row.image_hash: row.digest for row in tx.execute(select(_images))}


def cursors(tx: Connection) -> dict[str, int]:
    """Return the sequence of the last stored report of each device."""
    return {row.device: row.sequence for row in tx.execute(select(_cursors))}


def keep_reports(tx: Connection, reports: Sequence[DeviceReport], *, gateway: str, project: str, now: datetime) -> None:
    """Store one batch for delivery; from then on the boards may forget these reports."""
    batch = TelemetryBatch(
        gateway=gateway, project=project, sent_unix_ms=int(now.timestamp() * 1000), reports=list(reports)
    )
    tx.execute(insert(_batches).values(body=batch.SerializeToString()))
    for report in reports:
        tx.execute(delete(_cursors).where(_cursors.c.device == report.device))
        tx.execute(insert(_cursors).values(device=report.device, sequence=report.sequence))


def undelivered(tx: Connection, limit: int = 100) -> list[TelemetryBatch]:
    """Return the oldest batches that the bus has not acknowledged, in order."""
    batches = []
    for row in tx.execute(select(_batches).order_by(_batches.c.sequence).limit(limit)):
        batch = TelemetryBatch.FromString(row.body)
        batch.sequence = row.sequence
        batches.append(batch)
    return batches


def delivered(tx: Connection, batch: TelemetryBatch) -> None:
    """Forget a batch that the bus has acknowledged."""
    tx.execute(delete(_batches).where(_batches.c.sequence == batch.sequence))
