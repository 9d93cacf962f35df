"""A real service process on a real bus: effects once, whatever is killed."""

import asyncio
import json
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from shared.bus import DeadLetters, EmbeddedServer, Publisher, connect, ensure_streams
from shared.events import derived_id
from shared.events.source import Forge, SourcePushed
from shared.telemetry import TelemetryBatch
from tests.support import ServiceProcess, eventually, text_of

SERVICE = Path(__file__).with_name("counting_service.py")


class Process(ServiceProcess):
    """The counting service, and what it counted."""

    def __init__(self, url: str, data: Path, **settings: str) -> None:
        super().__init__("counting_service", url, data, command=(str(SERVICE),), **settings)

    async def url(self) -> str:
        return str(json.loads(await eventually(lambda: text_of(self.state_file)))["http"])

    def counted(self, kind: str) -> list[str]:
        database = self.data / "counting_service.db"
        if not database.exists():
            return []
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
            try:
                rows = connection.execute('SELECT "commit" FROM counted WHERE kind = ?', (kind,))
            except sqlite3.OperationalError:
                return []
            return [row[0] for row in rows]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "nats") as running:
        yield running


@pytest.fixture
def process(server: EmbeddedServer, tmp_path: Path) -> Iterator[Process]:
    process = Process(server.url, tmp_path)
    yield process
    if process.running:
        process.stop()


def push(number: int, branch: str = "main") -> SourcePushed:
    return SourcePushed(
        project="p",
        repository="file:///r",
        ref=f"refs/heads/{branch}",
        commit=f"{number:040x}",
        forge=Forge.GITHUB,
        delivery=str(number),
    )


async def publish(url: str, *pushes: SourcePushed) -> None:
    nc = await connect(url, name="test")
    await ensure_streams(nc.jetstream())
    publisher = Publisher(nc, source="test")
    for payload in pushes:
        event_id = derived_id(payload.delivery, payload.ref)
        await publisher.publish(payload, event_id=event_id, run_id=event_id)
    await nc.close()


async def stored(url: str, subject: str) -> int:
    nc = await connect(url, name="test")
    info = await nc.jetstream().stream_info("EVENTS", subjects_filter=subject)
    await nc.close()
    return sum((info.state.subjects or {}).values())


async def dead_letters(url: str) -> list[str]:
    nc = await connect(url, name="test")
    found = [record.reason for record in await DeadLetters(nc).list()]
    await nc.close()
    return found


async def test_every_event_has_its_effect_once_although_service_and_server_are_killed(
    server: EmbeddedServer, process: Process
) -> None:
    count = 600
    process.start()
    for start in range(0, count, 200):
        await publish(server.url, *(push(number) for number in range(start, start + 200)))
        await asyncio.sleep(random.uniform(0.1, 0.5))
        process.stop()
        if start == 200:
            server.kill()
            server.start()
        process.start()
    await eventually(lambda: len(process.counted("push")) >= count)

    async def all_is_said() -> bool:
        return await stored(server.url, "edgeloop.evt.p.drift.detected.v1") >= count

    await eventually(all_is_said)
    assert sorted(process.counted("push")) == [f"{number:040x}" for number in range(count)]
    assert await stored(server.url, "edgeloop.evt.p.artifact.build_failed.v1") == count
    assert await stored(server.url, "edgeloop.evt.p.drift.detected.v1") == count
    assert await dead_letters(server.url) == []


async def test_bad_events_become_dead_letters_and_their_neighbours_do_not(
    server: EmbeddedServer, process: Process
) -> None:
    await publish(
        server.url,
        push(0),
        push(1, "reject"),
        push(2, "retry"),
        push(3, "crash"),
        push(4, "undeclared"),
        push(5),
    )
    nc = await connect(server.url, name="test")
    await nc.jetstream().publish("edgeloop.evt.p.source.pushed.v1", b'{"specversion": "1.0"}')
    await nc.close()
    process.start()

    async def all_are_dead() -> list[str]:
        found = await dead_letters(server.url)
        return found if len(found) >= 5 else []

    reasons = await eventually(all_are_dead)
    assert len(reasons) == 5
    assert any("never handled" in reason for reason in reasons)
    assert any("after 3 attempts: this branch is handled later" in reason for reason in reasons)
    assert any("after 3 attempts: ZeroDivisionError: a bug" in reason for reason in reasons)
    assert any("does not declare" in reason for reason in reasons)
    assert any("id: Field required" in reason for reason in reasons)
    assert sorted(process.counted("push")) == [f"{number:040x}" for number in (0, 5)]


async def test_telemetry_is_counted_once_per_batch(server: EmbeddedServer, process: Process) -> None:
    nc = await connect(server.url, name="test")
    await ensure_streams(nc.jetstream())
    for sequence in (1, 2, 2, 3):
        batch = TelemetryBatch(gateway="g", project="p", sequence=sequence)
        await nc.jetstream().publish(
            "edgeloop.tel.p.g", batch.SerializeToString(), headers={"Nats-Msg-Id": str(uuid4())}
        )
    await nc.close()
    process.start()
    await eventually(lambda: len(process.counted("batch")) == 3)


async def test_health_says_ready_and_metrics_count_and_time_passes(server: EmbeddedServer, process: Process) -> None:
    process.start()
    url = await process.url()
    await publish(server.url, push(1))
    await eventually(lambda: process.counted("push"))
    await eventually(lambda: process.counted("tick"))
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).text == "ok\n"
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    assert ready.json() == {"ready": True, "parts": {"bus": "ready", "database": "ready"}}
    assert (
        'edgeloop_events_handled_total{consumer="counting_service",outcome="Done",service="counting_service"}'
        in metrics
    )


async def test_sigterm_drains_and_exits_zero(process: Process) -> None:
    process.start()
    await process.url()
    assert process.stop(signal.SIGTERM) == 0
    assert "drained" in process.log()
    assert not process.state_file.exists()


def test_a_bus_that_is_not_there_is_named_and_exits_three(tmp_path: Path) -> None:
    process = Process("nats://127.0.0.1:9", tmp_path, EDGELOOP_CONNECT_DEADLINE_S="0.5")
    process.start()
    assert process.ended() == 3
    assert "nats://127.0.0.1:9" in process.log()


def test_a_wrong_setting_is_named_and_exits_two(tmp_path: Path) -> None:
    process = Process("nats://127.0.0.1:9", tmp_path, EDGELOOP_HTTP_PORT="web")
    process.start()
    assert process.ended() == 2
    assert "EDGELOOP_HTTP_PORT: Input should be a valid integer" in process.log()


async def test_a_port_in_use_is_named_and_exits_three(server: EmbeddedServer, tmp_path: Path) -> None:
    busy = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = busy.sockets[0].getsockname()[1]
    process = Process(server.url, tmp_path, EDGELOOP_HTTP_PORT=str(port))
    process.start()
    assert await asyncio.to_thread(process.ended) == 3
    assert f"127.0.0.1:{port}" in process.log()
    busy.close()
