"""Virtual boards on loopback, and a gateway's driver for each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from device_gateway.config import DeviceEntry, GatewayConfig
from device_gateway.drivers.smp_udp import SmpUdpDriver
from device_gateway.gateway import Gateway
from device_gateway.handlers import install_release
from device_gateway.sessions import open_sessions
from device_gateway.settings import Settings
from device_gateway.store import METADATA
from device_gateway.virtual.host import Host, running_host
from device_gateway.virtual.provisioning import factory_image, factory_key
from device_gateway.virtual.settings import VirtualConfig
from shared.artifacts.keys import load_public_key
from shared.boards import image_board
from shared.emulation.mcuboot_image import McubootImage, read_image
from shared.events import Blob, Payload, digest_of, envelop
from shared.events.device import DeviceReported, InstallObserved, InstallRelease
from shared.runtime import Transaction
from shared.runtime.handlers import Emission, Emissions, InRun
from shared.store import BlobMissingError, Store
from shared.telemetry import TelemetryBatch


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path


@pytest.fixture(scope="session")
def release_key(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The key that the builder signs with."""
    directory = tmp_path_factory.mktemp("keys")
    private, public = directory / "signing.pem", directory / "signing.pub.pem"
    public.write_bytes(factory_key(private).pem)
    return Keys(private, public)


@dataclass(frozen=True)
class Image:
    data: bytes
    parsed: McubootImage

    @property
    def hash(self) -> str:
        return self.parsed.image_hash


MakeImage = Callable[..., Image]


@pytest.fixture
def make_image(release_key: Keys) -> MakeImage:
    """Signed firmware without a model, told apart by its version and as long as asked."""

    def make(
        version: str = "1.0.0", *, board: str = "cortex-m4", padding: int = 6000, key: Path | None = None
    ) -> Image:
        data = factory_image(image_board(board), key or release_key.private, version=version, padding=padding)
        return Image(data, read_image(data))

    return make


StartHost = Callable[..., Awaitable[Host]]


@pytest.fixture
async def start_host(tmp_path: Path, release_key: Keys) -> AsyncIterator[StartHost]:
    async with AsyncExitStack() as stack:

        async def start(count: int = 1, *, board: str = "cortex-m4", **changes: object) -> Host:
            config = VirtualConfig.model_validate(
                {
                    "project": "demo",
                    "boards": [{"id": f"board-{index}", "board": board} for index in range(count)],
                    "flash": tmp_path / "flash",
                    "state": tmp_path / "run" / "virtual_boards.json",
                    "verify_key": release_key.public,
                }
                | changes
            )
            return await stack.enter_async_context(running_host(config))

        yield start


@pytest.fixture
async def driver_of() -> AsyncIterator[Callable[[Host, str], SmpUdpDriver]]:
    drivers: list[SmpUdpDriver] = []

    def make(host: Host, name: str) -> SmpUdpDriver:
        drivers.append(SmpUdpDriver(f"udp://127.0.0.1:{host.ports[name]}", host.boards[name].board))
        return drivers[-1]

    yield make
    for driver in drivers:
        await driver.close()


RELEASE = "sha256:" + "a" * 64


@dataclass(frozen=True)
class _Unit:
    tx: Transaction
    emit: Callable[[Emissions, UUID, UUID], None]


@dataclass
class Rack:
    """A gateway with its boards, a blob store in memory and a record of what it said."""

    gateway: Gateway
    host: Host
    blobs: dict[str, bytes] = field(default_factory=dict)
    said: list[Payload] = field(default_factory=list)
    published: list[TelemetryBatch] = field(default_factory=list)

    def order(self, image: Image | None, *, image_hash: str = "", **changes: object) -> InstallRelease:
        blob = None
        if image is not None:
            self.blobs[digest_of(image.data)] = image.data
            blob = Blob.of(image.data, media_type="application/octet-stream")
        fields: dict[str, object] = {
            "project": "demo",
            "receiver": "rack-1",
            "rollout_id": uuid4(),
            "device": "board-0",
            "digest": RELEASE if image else None,
            "image": blob,
            "image_hash": image.hash if image else image_hash,
            "version": "1.0.0",
            "fencing_token": 1,
            "deadline_s": 20.0,
        }
        return InstallRelease.model_validate(fields | changes)

    async def install(self, order: InstallRelease) -> tuple[InstallObserved, list[DeviceReported]]:
        event = envelop(order, event_id=uuid4(), source="test", time=datetime.now(UTC), correlation_id=uuid4())
        emissions: list[Emission] = list(await install_release.call(event, self.gateway))
        observed, *reports = emissions
        assert isinstance(observed, InstallObserved)
        return observed, cast("list[DeviceReported]", reports)


OpenRack = Callable[..., Awaitable[Rack]]


@pytest.fixture
async def open_rack(start_host: StartHost, release_key: Keys, tmp_path: Path) -> AsyncIterator[OpenRack]:
    """Open a gateway beside its boards; a second call is the gateway started again on the same database."""
    async with AsyncExitStack() as stack:
        hosts: list[Host] = []

        async def start(**changes: object) -> Rack:
            if not hosts:
                hosts.append(await start_host(**cast("Any", changes)))
            host = hosts[0]
            entries = tuple(
                DeviceEntry.model_validate({key: row[key] for key in ("id", "board", "driver", "address")})
                for row in host.describe()
            )
            store = Store(f"sqlite:///{tmp_path / 'gateway.db'}", METADATA)
            stack.callback(store.close)
            blobs: dict[str, bytes] = {}
            said: list[Payload] = []
            published: list[TelemetryBatch] = []

            @asynccontextmanager
            async def unit() -> AsyncIterator[_Unit]:
                def emit(emissions: Emissions, _cause: UUID, _run: UUID) -> None:
                    said.extend(e.payload if isinstance(e, InRun) else e for e in emissions)

                async with store.transaction() as tx:
                    yield _Unit(tx, emit)

            async def fetch(digest: str) -> bytes:
                if digest not in blobs:
                    raise BlobMissingError(f"no object {digest}")
                return blobs[digest]

            async def publish(batch: TelemetryBatch) -> bool:
                published.append(batch)
                return False

            gateway = Gateway(
                settings=Settings(gateway_config=tmp_path / "gateway.yaml", lost_after_s=0.5),
                config=GatewayConfig(gateway="rack-1", project="demo", devices=entries),
                sessions=open_sessions(entries),
                keys=(load_public_key(release_key.public),),
                fetch=fetch,
                unit=unit,
                publish=publish,
                serve_lab=asyncio.Event().wait,
            )
            for session in gateway.sessions.values():
                stack.push_async_callback(session.driver.close)
            return Rack(gateway, host, blobs, said, published)

        yield start
