"""The same store on PostgreSQL: a private cluster, started for these tests where Debian's packages are installed."""

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
from sqlalchemy import Column, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError

from device_gateway import store as gateway
from services.artifact_builder import store as builder
from services.device_lab_scheduler import store as lab
from services.drift_monitor import store as drift
from services.rollout_controller import store as rollout
from shared.store import Inbox, Outbox, OutgoingMessage, Store, StoreUnavailableError, inbox, outbox

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


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(StoreUnavailableError, match="check that it runs"):
        open_store("postgresql+psycopg://edgeloop@/postgres?host=/nonexistent")
