"""The HTTP interface of the process that hosts the boards."""

from pathlib import Path

import httpx

from device_gateway.virtual.api import application
from device_gateway.virtual.host import Host
from device_gateway.virtual.sensor import Surroundings


async def test_it_says_that_it_is_ready_as_every_service_does(tmp_path: Path) -> None:
    transport = httpx.ASGITransport(application(Host({}, None, Surroundings("right", tmp_path / "environment"))))
    async with httpx.AsyncClient(transport=transport, base_url="http://boards") as client:
        assert (await client.get("/readyz")).status_code == httpx.codes.OK
        assert (await client.get("/environment")).status_code == httpx.codes.CONFLICT
