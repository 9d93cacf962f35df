"""What is to be said: written in the transaction of the decision, published after it, forgotten in the next.

A crash at any point publishes a message again under the same id, and the stream drops the repeat.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, Connection, DateTime, Integer, LargeBinary, MetaData, String, Table, delete, select

from shared.store.sql import Store

METADATA: Final = MetaData()

_outbox = Table(
    "edgeloop_outbox",
    METADATA,
    Column("message_id", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("subject", String(512), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False),
)
_add = _outbox.insert()
_left = select(_outbox).order_by(_outbox.c.written_at, _outbox.c.position)

STRANDED_AFTER: Final = timedelta(seconds=30)
"""Rows older than this belong to a replica that died between its commit and its publish."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message for the bus; `message_id` makes a repeat recognisable."""

    subject: str
    body: bytes
    message_id: str


Publish = Callable[[Sequence[OutgoingMessage]], Awaitable[None]]
"""Publishes all messages in order, or raises; what it raised about may still have been published."""


class Outbox:
    """Messages between their commit and their acknowledgement by the stream."""

    def __init__(self, store: Store, publish: Publish) -> None:
        self._store = store
        self._publish = publish
        self._waiting: list[OutgoingMessage] = []
        self._published: list[str] = []
        self._flushing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def write(self, tx: Connection, messages: Sequence[OutgoingMessage], now: datetime) -> None:
        """Add messages to the open transaction, and forget those that an earlier flush published."""
        self._forget_published(tx)
        if messages:
            tx.execute(
                _add,
                [
                    {
                        "message_id": message.message_id,
                        "position": position,
                        "subject": message.subject,
                        "body": message.body,
                        "written_at": now,
                    }
                    for position, message in enumerate(messages)
                ],
            )

    def committed(self, messages: Sequence[OutgoingMessage]) -> None:
        """Tell that the transaction with these messages was committed: the next flush publishes them."""
        self._waiting.extend(messages)

    async def flush(self) -> None:
        """Publish everything that waits. Raises what the publisher raises; nothing is forgotten then."""
        async with self._flushing:  # two at once would both publish the same
            while self._waiting:
                batch = tuple(self._waiting)
                await self._publish(batch)
                self._published.extend(message.message_id for message in batch)
                sent = {message.message_id for message in batch}
                self._waiting = [message for message in self._waiting if message.message_id not in sent]

    async def recover(self, now: datetime, *, all_rows: bool) -> int:
        """Publish rows that a crash left behind; return how many. `all_rows`: also young ones, right for a start."""
        async with self._store.transaction() as tx:
            self._forget_published(tx)
            statement = _left if all_rows else _left.where(_outbox.c.written_at < now - STRANDED_AFTER)
            rows = tx.execute(statement).all()
        known = {message.message_id for message in self._waiting}
        stranded = [
            OutgoingMessage(row.subject, row.body, row.message_id) for row in rows if row.message_id not in known
        ]
        self._waiting.extend(stranded)
        await self.flush()
        return len(stranded)

    async def close(self) -> None:
        """Flush, and forget what was published."""
        await self.flush()
        async with self._store.transaction() as tx:
            self._forget_published(tx)

    def _forget_published(self, tx: Connection) -> None:
        if self._published:
            # A rollback keeps the rows; they are published again under the same ids when the service starts.
            tx.execute(delete(_outbox).where(_outbox.c.message_id.in_(self._published)))
            self._published = []
