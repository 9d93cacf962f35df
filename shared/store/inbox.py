"""Which events a consumer has handled: the reason that an event delivered twice has its effect once."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Column, Connection, DateTime, Index, MetaData, String, Table, Uuid, bindparam, delete, select

METADATA: Final = MetaData()

_inbox = Table(
    "edgeloop_inbox",
    METADATA,
    Column("consumer", String(128), primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("forget_at", DateTime(timezone=True), nullable=False),
    Index("edgeloop_inbox_forget_at", "forget_at"),
    sqlite_with_rowid=False,
)
_known = select(_inbox.c.event_id).where(
    _inbox.c.consumer == bindparam("consumer"), _inbox.c.event_id.in_(bindparam("ids", expanding=True))
)
_add = _inbox.insert()

KEEP: Final = timedelta(days=45)
"""Longer than any stream keeps its messages, so that no redelivery outlives its inbox row."""


class Inbox:
    """The handled events of one consumer."""

    def __init__(self, consumer: str, keep: timedelta = KEEP) -> None:
        """Args: keep: for how long; a stream that keeps its messages for a shorter time may do with less."""
        self.consumer = consumer
        self.keep = keep

    def known(self, tx: Connection, event_ids: Iterable[UUID]) -> set[UUID]:
        """Return those of `event_ids` that were handled before."""
        return set(tx.scalars(_known, {"consumer": self.consumer, "ids": list(event_ids)}))

    def add(self, tx: Connection, event_ids: Iterable[UUID], now: datetime) -> None:
        """Record events as handled.

        Raises:
            sqlalchemy.exc.IntegrityError: another replica handled one of them at the same moment.
        """
        forget_at = now + self.keep
        rows = [{"consumer": self.consumer, "event_id": event_id, "forget_at": forget_at} for event_id in event_ids]
        if rows:
            tx.execute(_add, rows)

    @staticmethod
    def forget(tx: Connection, now: datetime) -> int:
        """Drop rows that no redelivery can need any more; return how many."""
        return tx.execute(delete(_inbox).where(_inbox.c.forget_at < now)).rowcount
