import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client

from shared.bus import BusUnreachableError, EmbeddedServer, ServerTooOldError, connect
from tests.support import eventually


@asynccontextmanager
async def server_of_version(version: str) -> AsyncIterator[str]:
    """Speak just enough of the protocol to introduce oneself and answer the client's PING."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": version, "max_payload": 1048576, "headers": True, "proto": 1}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_server_that_is_too_old_is_refused_by_name() -> None:
    async with server_of_version("2.9.10") as url:
        with pytest.raises(ServerTooOldError, match=r"is 2\.9\.10; 2\.11 or later is needed.*Next: upgrade"):
            await connect(url, name="test")


async def test_a_server_that_is_not_there_is_reported_in_time_without_its_password(unused_tcp_port: int) -> None:
    url = f"nats://user:secret@127.0.0.1:{unused_tcp_port}"
    with pytest.raises(BusUnreachableError, match=rf"127\.0\.0\.1:{unused_tcp_port} within 0\.3 s.*Next: ") as raised:
        await connect(url, name="test", deadline_s=0.3)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:4222", "http://127.0.0.1:4222", "nats://"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BusUnreachableError, match="is no NATS address"):
        await connect(url, name="test")


async def test_the_end_of_a_connection_is_told(nats_server: EmbeddedServer) -> None:
    ends: list[str] = []
    client = await connect(nats_server.url, name="test", on_closed=lambda: ends.append("closed"))
    await client.close()
    assert ends == ["closed"]


async def test_a_failed_connection_does_not_count_as_one_that_ended(unused_tcp_port: int) -> None:
    ends: list[str] = []
    with pytest.raises(BusUnreachableError):
        await connect(
            f"nats://127.0.0.1:{unused_tcp_port}", name="test", deadline_s=0.2, on_closed=lambda: ends.append("closed")
        )
    assert ends == []


async def test_a_connection_outlives_its_server(nats_server: EmbeddedServer, nc: Client) -> None:
    nats_server.kill()
    await asyncio.sleep(0.3)
    nats_server.start()
    await eventually(lambda: nc.is_connected)
    assert await nc.jetstream().account_info()
