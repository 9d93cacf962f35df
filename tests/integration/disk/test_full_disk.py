"""What happens on a disk that is really full, and after there is room again."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edgeloop.layout import Layout
from shared.bus import DeadLetters, EmbeddedServer, Publisher, PublishError, connect, ensure_streams
from shared.events import derived_id
from shared.events.source import Forge, SourcePushed
from tests.integration.disk.conftest import Disk
from tests.support import ServiceProcess, eventually


@contextmanager
def nats_on(layout: Layout) -> Iterator[None]:
    layout.nats.mkdir(parents=True)
    state_file = layout.state_file_of("nats")
    command = [sys.executable, "-m", "edgeloop.stack.nats_process", str(layout.nats), "0", str(state_file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield
        process.send_signal(signal.SIGTERM)


async def test_the_bus_stores_again_once_there_is_room_and_has_lost_nothing(disk: Disk) -> None:
    layout = Layout(disk.root)
    with nats_on(layout):
        await eventually(layout.state_file_of("nats").exists)
        state = layout.service_state("nats")
        assert state is not None
        nc = await connect(state.http, name="test")
        await ensure_streams(nc.jetstream())
        publisher, stored = Publisher(nc, "test", deadline_s=0.5), 3
        for number in range(stored):
            await publisher.publish_message("edgeloop.audit.x", os.urandom(50_000), str(number))
        disk.fill()
        with pytest.raises(PublishError):
            await publisher.publish_message("edgeloop.audit.x", os.urandom(50_000), "too much")
        disk.free()

        async def stores_again() -> bool:
            try:
                return not await publisher.publish_message("edgeloop.audit.x", b"after", "after")
            except PublishError:
                return False

        await eventually(stores_again)
        assert (await nc.jetstream().stream_info("AUDIT")).state.messages == stored + 1
        await nc.close()


COUNTING_SERVICE = Path(__file__).parents[1] / "runtime" / "counting_service.py"
PUSHES = 40


async def test_a_service_waits_for_room_and_has_every_effect_once(
    disk: Disk, nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    settings = {"EDGELOOP_DATA": str(disk.root)}
    service = ServiceProcess("counting", nats_server.url, tmp_path, command=(str(COUNTING_SERVICE),), **settings)
    nc = await connect(nats_server.url, name="test")
    await ensure_streams(nc.jetstream())

    async def push(numbers: range) -> None:
        for number in numbers:
            payload = SourcePushed(
                project="p",
                repository="https://forge.example/p.git",
                ref="refs/heads/main",
                commit=f"{number:040x}",
                forge=Forge.GITEA,
                delivery=str(number),
            )
            cause = derived_id("test", number)
            await Publisher(nc, "test").publish(payload, event_id=cause, run_id=cause)

    def counted() -> list[str]:
        with closing(sqlite3.connect(f"file:{disk.root / 'counting_service.db'}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT \"commit\" FROM counted WHERE kind = 'push'")
            return sorted(row[0] for row in rows)

    service.start()
    state_file = disk.root / "run" / "counting_service.json"
    await eventually(state_file.exists)
    await push(range(PUSHES // 2))
    await eventually(lambda: len(counted()) == PUSHES // 2)
    disk.fill()
    await push(range(PUSHES // 2, PUSHES))
    await eventually(lambda: "disk is full" in service.log())
    service.stop()
    service.start()
    assert service.ended() == 3
    last_line = service.log().splitlines()[-1]
    assert "disk is full" in last_line or "No space left" in last_line
    disk.free()
    service.start()
    await eventually(lambda: len(counted()) == PUSHES)
    assert counted() == [f"{number:040x}" for number in range(PUSHES)]
    assert await DeadLetters(nc).list() == []
    assert service.stop(signal.SIGTERM) == 0
    await nc.close()
