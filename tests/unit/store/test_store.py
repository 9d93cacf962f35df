"""The SQL store, the inbox and the outbox, on real SQLite files."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

from shared.store import Inbox, Outbox, OutgoingMessage, Store, StoreUnavailableError, inbox, outbox

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("value", Integer))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'state.db'}", METADATA, inbox.METADATA, outbox.METADATA)


class Wire:
    """The publishing side: records what arrives, or is cut."""

    def __init__(self) -> None:
        self.cut = False
        self.arrived: list[str] = []

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        if self.cut:
            raise ConnectionError("the bus is away")
        self.arrived += [message.message_id for message in messages]


def message(name: str) -> OutgoingMessage:
    return OutgoingMessage("edgeloop.evt.p.x.y.v1", b"{}", name)


async def test_a_transaction_that_raises_leaves_nothing(store: Store) -> None:
    async def fail_halfway() -> None:
        async with store.transaction() as tx:
            tx.execute(insert(NOTES).values(value=1))
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    async with store.transaction() as tx:
        assert tx.scalar(select(func.count()).select_from(NOTES)) == 0


async def test_a_savepoint_takes_back_its_own_part_only(store: Store) -> None:
    async with store.transaction() as tx:
        tx.execute(insert(NOTES).values(value=1))
        savepoint = tx.begin_nested()
        tx.execute(insert(NOTES).values(value=2))
        savepoint.rollback()
    async with store.transaction() as tx:
        assert list(tx.scalars(select(NOTES.c.value))) == [1]


async def test_two_tasks_write_one_after_the_other(store: Store) -> None:
    async def write(value: int) -> None:
        async with store.transaction() as tx:
            tx.execute(insert(NOTES).values(value=value))
            await asyncio.sleep(0.01)
            tx.execute(insert(NOTES).values(value=value))

    await asyncio.gather(*(write(value) for value in range(5)))
    async with store.transaction() as tx:
        values = list(tx.scalars(select(NOTES.c.value)))
    assert values == [value for value in range(5) for _ in range(2)]


@pytest.mark.parametrize("url", ["nonsense", "oracle9://x", "sqlite:////proc/none/state.db"])
def test_a_database_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises((StoreUnavailableError, OSError)) as error:
        Store(url, METADATA)
    assert "none" in str(error.value) or url in str(error.value)


async def test_the_inbox_knows_what_it_was_told_per_consumer(store: Store) -> None:
    first, second = uuid4(), uuid4()
    async with store.transaction() as tx:
        Inbox("a").add(tx, [first], NOW)
    async with store.transaction() as tx:
        assert Inbox("a").known(tx, [first, second]) == {first}
        assert Inbox("b").known(tx, [first]) == set()


async def test_the_inbox_forgets_only_what_no_stream_keeps(store: Store) -> None:
    old, young = uuid4(), uuid4()
    async with store.transaction() as tx:
        Inbox("a").add(tx, [old], NOW)
        Inbox("a").add(tx, [young], NOW + inbox.KEEP)
        assert Inbox.forget(tx, NOW + inbox.KEEP + timedelta(seconds=1)) == 1
        assert Inbox("a").known(tx, [old, young]) == {young}


async def test_a_consumer_of_a_short_stream_forgets_earlier(store: Store) -> None:
    event_id = uuid4()
    async with store.transaction() as tx:
        Inbox("a", timedelta(days=4)).add(tx, [event_id], NOW)
        assert Inbox.forget(tx, NOW + timedelta(days=4)) == 0
        assert Inbox.forget(tx, NOW + timedelta(days=5)) == 1


async def test_a_message_is_published_after_its_commit_and_then_forgotten(store: Store) -> None:
    wire = Wire()
    box = Outbox(store, wire.publish)
    async with store.transaction() as tx:
        box.write(tx, [message("1")], NOW)
        assert wire.arrived == []
    box.committed([message("1")])
    await box.flush()
    await box.close()
    assert wire.arrived == ["1"]
    assert await Outbox(store, wire.publish).recover(NOW, all_rows=True) == 0


async def test_a_message_that_a_crash_left_behind_is_published_at_the_next_start(store: Store) -> None:
    wire = Wire()
    box = Outbox(store, wire.publish)
    async with store.transaction() as tx:
        box.write(tx, [message("1"), message("2")], NOW)
    # the process dies here
    assert await Outbox(store, wire.publish).recover(NOW, all_rows=True) == 2
    assert wire.arrived == ["1", "2"]


async def test_a_publish_that_fails_is_repeated_under_the_same_id(store: Store) -> None:
    wire = Wire()
    box = Outbox(store, wire.publish)
    async with store.transaction() as tx:
        box.write(tx, [message("1")], NOW)
    box.committed([message("1")])
    wire.cut = True
    with pytest.raises(ConnectionError):
        await box.flush()
    wire.cut = False
    await box.flush()
    assert wire.arrived == ["1"]


async def test_another_replica_takes_over_only_old_rows(store: Store) -> None:
    wire = Wire()
    async with store.transaction() as tx:
        Outbox(store, wire.publish).write(tx, [message("1")], NOW)
    other = Outbox(store, wire.publish)
    assert await other.recover(NOW + outbox.STRANDED_AFTER / 2, all_rows=False) == 0
    assert await other.recover(NOW + outbox.STRANDED_AFTER * 2, all_rows=False) == 1
