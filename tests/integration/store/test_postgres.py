"""The same store on PostgreSQL: a private cluster, started for these tests where Debian's packages are installed."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.exc import IntegrityError

from device_gateway import store as gateway
from services.artifact_builder import store as builder
from services.artifact_builder.caching.blobs import BlobCache
from services.artifact_builder.caching.eviction import Bounds, Entry
from services.device_lab_scheduler import store as lab
from services.device_lab_scheduler.desk import Desk
from services.drift_monitor import store as drift
from services.rollout_controller import store as rollout
from shared.interop.signed_results import unsigned_result
from shared.lab import VerdictKind
from shared.lab.messages import AskJobs, Cancel, Done
from shared.store import Inbox, Outbox, OutgoingMessage, Store, StoreUnavailableError, inbox, outbox
from tests.data.gestures.release import MemoryBlobs
from tests.support import eventually
from tests.unit.device_lab.desk_world import DeskWorld, unit_of

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not BINARIES, reason="PostgreSQL is missing: apt-get install postgresql")

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("value", Integer))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="edgeloop-postgres-"))
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        shutil.chown(folder, user)

    def as_user(program: str, *arguments: str) -> None:
        command = [str(BINARIES[-1].with_name(program)), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", user, "--", *command]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    cluster = str(folder / "cluster")
    as_user("initdb", "-D", cluster, "--auth=trust", "--no-sync", "-U", "edgeloop")
    # Only a socket in our own folder: no port is taken.
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    as_user("pg_ctl", "-D", cluster, "-w", "-l", str(folder / "log"), "-o", options, "start")
    yield f"postgresql+psycopg://edgeloop@/postgres?host={folder}"
    as_user("pg_ctl", "-D", cluster, "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_every_services_tables_can_be_made(database_url: str) -> None:
    tables = [builder.METADATA, drift.METADATA, gateway.METADATA, lab.METADATA, rollout.METADATA]
    store = Store(database_url, *tables)
    store.close()


def open_store(url: str) -> Store:
    return Store(url, METADATA, inbox.METADATA, outbox.METADATA)


async def test_state_inbox_and_outbox_commit_together(database_url: str) -> None:
    arrived: list[str] = []

    async def publish(messages: Sequence[OutgoingMessage]) -> None:
        arrived.extend(message.message_id for message in messages)

    store, event_id = open_store(database_url), uuid4()
    box = Outbox(store, publish)

    async def fail_halfway() -> None:
        async with store.transaction() as tx:
            tx.execute(insert(NOTES).values(value=1))
            Inbox("a").add(tx, [event_id], NOW)
            box.write(tx, [OutgoingMessage("s", b"{}", "lost")], NOW)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    async with store.transaction() as tx:
        assert Inbox("a").known(tx, [event_id]) == set()
        savepoint = tx.begin_nested()
        tx.execute(insert(NOTES).values(value=2))
        savepoint.rollback()
        tx.execute(insert(NOTES).values(value=3))
        Inbox("a").add(tx, [event_id], NOW)
        box.write(tx, [OutgoingMessage("s", b"{}", "kept")], NOW)
    async with store.transaction() as tx:
        assert list(tx.scalars(select(NOTES.c.value))) == [3]
        assert Inbox("a").known(tx, [event_id]) == {event_id}
    assert await Outbox(store, publish).recover(NOW, all_rows=True) == 1
    assert arrived == ["kept"]
    store.close()


async def test_of_two_replicas_that_handle_one_event_only_one_commits(database_url: str) -> None:
    first, second, event_id = open_store(database_url), open_store(database_url), uuid4()
    async with first.transaction() as tx:
        assert Inbox("b").known(tx, [event_id]) == set()
    async with second.transaction() as tx:
        Inbox("b").add(tx, [event_id], NOW)
    with pytest.raises(IntegrityError):
        async with first.transaction() as tx:
            Inbox("b").add(tx, [event_id], NOW)
    first.close()
    second.close()


async def test_of_two_builders_that_remember_one_stage_at_once_neither_fails(database_url: str) -> None:
    first, second, watching = (Store(database_url, builder.METADATA) for _ in range(3))
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'")

    async def someone_waits() -> bool:
        async with watching.transaction() as tx:
            return bool(tx.scalar(waits))

    def put() -> None:
        cache = BlobCache(second, MemoryBlobs(), Bounds())
        asyncio.run(cache.put("k", {"model": b"1"}, stage="train", project="fan"))

    async with first.transaction() as tx:
        builder.remember_stage(tx, "k", outputs={"model": "d"}, sizes={"d": 1}, stage="s", project="p", now_s=1.5)
        putting = asyncio.create_task(asyncio.to_thread(put))
        await eventually(someone_waits)
    await putting
    async with first.transaction() as tx:
        [entry] = builder.cached_stages(tx)
        assert entry == Entry("k", 1.5, 1.5, {"d": 1})
        builder.stage_outputs(tx, "k", now_s=2.5)
        builder.evict(tx, [entry])
        assert builder.cached_stages(tx) == [Entry("k", 1.5, 2.5, {"d": 1})], "it was used since"
        builder.evict(tx, builder.cached_stages(tx))
        assert builder.cached_stages(tx) == []
    for store in (first, second, watching):
        store.close()


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(StoreUnavailableError, match="check that it runs"):
        open_store("postgresql+psycopg://edgeloop@/postgres?host=/nonexistent")


async def test_the_labs_desk_keeps_its_books_there_and_another_reads_what_is_newer(database_url: str) -> None:
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE desk"))
    engine.dispose()
    own_url = database_url.replace("/postgres?", "/desk?")
    lab, elsewhere = DeskWorld(boards=("p-1",), url=own_url), Store(own_url)
    other = Desk(unit_of(elsewhere), lab.line, lab.rules, clock=lab.clock, document=unsigned_result)
    await lab.steps(2)
    assert (await other.jobs(AskJobs())).jobs == ()
    await lab.submit("j")
    await lab.steps()
    assert [job.id for job in (await other.jobs(AskJobs())).jobs] == ["j"]
    assert (await other.cancel(Cancel(id="j"))) == Done()
    await lab.steps()
    assert (await lab.board("p-1")).job is None
    assert (await lab.job("j")).verdict is VerdictKind.INFRASTRUCTURE
    assert lab.boards["p-1"].reached == [b"image"]
    elsewhere.close()
    await lab.close()
