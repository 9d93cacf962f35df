"""The real processes: virtual boards, a gateway and NATS; the gateway is killed in the middle of its work."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer, Publisher
from shared.events import Event, Payload
from shared.events.catalogue import decode
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome, InstallRelease
from shared.store import Blobs
from tests.support import eventually

from .conftest import RELEASE, Keys, MakeImage

DEVICES = ("board-0", "board-1", "board-2")


def read_if_there(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.exists() else None


@dataclass
class Rack:
    """Two child processes and where they keep their things."""

    folder: Path
    stack: ExitStack
    environment: dict[str, str]

    def start(self, module: str, ready: Path) -> "subprocess.Popen[bytes]":
        ready.unlink(missing_ok=True)
        log = self.stack.enter_context((self.folder / f"{module}.log").open("ab"))
        process = subprocess.Popen([sys.executable, "-m", module], env=os.environ | self.environment, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    async def until_ready(self, process: "subprocess.Popen[bytes]", ready: Path) -> dict[str, Any]:
        def state() -> dict[str, Any] | None:
            assert process.poll() is None, "it ended before it was ready; see its log"
            return read_if_there(ready)

        return await eventually(state)

    @property
    def boards_file(self) -> Path:
        return self.folder / "run" / "virtual_boards.json"

    @property
    def gateway_file(self) -> Path:
        return self.folder / "run" / "device_gateway.json"

    async def start_gateway(self) -> "subprocess.Popen[bytes]":
        process = self.start("device_gateway", self.gateway_file)
        await self.until_ready(process, self.gateway_file)
        return process


@pytest.fixture
def rack(tmp_path: Path, nats_server: EmbeddedServer, release_key: Keys) -> Iterator[Rack]:
    boards = {
        "project": "demo",
        "boards": [{"id": device, "board": "cortex-m4"} for device in DEVICES],
        "flash": str(tmp_path / "flash"),
        "state": str(tmp_path / "run" / "virtual_boards.json"),
        "verify_key": str(release_key.public),
    }
    (tmp_path / "boards.json").write_text(json.dumps(boards))
    with ExitStack() as stack:
        yield Rack(
            tmp_path,
            stack,
            {
                "EDGELOOP_DATA": str(tmp_path),
                "EDGELOOP_NATS_URL": nats_server.url,
                "EDGELOOP_VERIFY_KEY": str(release_key.public),
                "EDGELOOP_VIRTUAL_CONFIG": str(tmp_path / "boards.json"),
                "EDGELOOP_GATEWAY_CONFIG": str(tmp_path / "gateway.yaml"),
                "EDGELOOP_STATE_PERIOD_S": "0.3",
            },
        )


class Ear:
    """Everything the gateway says, by device."""

    def __init__(self) -> None:
        self.events: list[Event[Payload]] = []

    async def listen(self, nc: Client) -> None:
        subscription = await nc.subscribe("edgeloop.evt.demo.device.>")
        async for message in subscription.messages:
            self.events.append(decode(message.subject, message.data))

    async def until(self, enough: Callable[[list[Payload]], bool]) -> list[Payload]:
        await eventually(lambda: enough([event.data for event in self.events]), within_s=90)
        return [event.data for event in self.events]


def observed(said: list[Payload]) -> dict[str, InstallObserved]:
    return {payload.device: payload for payload in said if isinstance(payload, InstallObserved)}


@pytest.mark.slow
async def test_orders_survive_a_gateway_that_is_killed_in_the_middle(
    rack: Rack, nc: Client, make_image: MakeImage
) -> None:
    boards = rack.start("device_gateway.virtual", rack.boards_file)
    state = await rack.until_ready(boards, rack.boards_file)
    entries = [{key: row[key] for key in ("id", "board", "driver", "address")} for row in state["boards"]]
    (rack.folder / "gateway.yaml").write_text(json.dumps({"gateway": "rack-1", "project": "demo", "devices": entries}))
    ear = Ear()
    listening = asyncio.create_task(ear.listen(nc))
    gateway = await rack.start_gateway()
    said = await ear.until(lambda said: {p.device for p in said if isinstance(p, DeviceReported)} == set(DEVICES))
    assert {p.state for p in said if isinstance(p, DeviceReported)} == {DeviceState.CONFIRMED}

    image = make_image("2.0.0", padding=150_000)
    blob = await Blobs(nc.jetstream()).put(image.data, media_type="application/octet-stream")
    publisher = Publisher(nc, source="test")
    for device in DEVICES:
        order = InstallRelease(
            project="demo",
            receiver="rack-1",
            rollout_id=uuid4(),
            device=device,
            digest=RELEASE,
            image=blob,
            image_hash=image.hash,
            version="2.0.0",
            fencing_token=1,
            deadline_s=60,
        )
        await publisher.publish(order, event_id=uuid4(), run_id=uuid4())
    await asyncio.sleep(0.25)
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    gateway = await rack.start_gateway()
    ends = observed(await ear.until(lambda said: set(observed(said)) == set(DEVICES)))
    assert {end.outcome for end in ends.values()} == {InstallOutcome.VERIFIED}, ends

    async with httpx.AsyncClient(base_url=state["http"]) as client:
        running = (await client.get("/boards")).json()
    assert {(row["image_hash"], row["state"]) for row in running} == {(image.hash, "confirmed")}

    # After a restart the gateway still knows which release the image is.
    gateway.terminate()
    assert gateway.wait() == 0
    ear.events.clear()
    await rack.start_gateway()
    said = await ear.until(lambda said: {p.device for p in said if isinstance(p, DeviceReported)} == set(DEVICES))
    assert {p.digest for p in said if isinstance(p, DeviceReported)} == {RELEASE}
    boards.terminate()
    assert boards.wait() == 0
    assert not rack.boards_file.exists()
    listening.cancel()


async def test_wrong_configurations_end_with_2_and_say_what_to_do(rack: Rack) -> None:
    (rack.folder / "gateway.yaml").write_text("gateway: rack-1\nproject: demo\ndevices: []\n")
    for module, changes, message in (
        ("device_gateway", {}, "gateway.yaml:3: devices"),
        ("device_gateway", {"EDGELOOP_GATEWAY_CONFIG": "absent.yaml"}, "EDGELOOP_GATEWAY_CONFIG"),
        ("device_gateway.virtual", {"EDGELOOP_VIRTUAL_CONFIG": "absent.json"}, "absent.json"),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, env=os.environ | rack.environment | changes, stderr=subprocess.PIPE
        )
        _, error = await process.communicate()
        assert process.returncode == 2, error
        assert message in error.decode()
