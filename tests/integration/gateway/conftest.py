"""Virtual boards on loopback, and a gateway's driver for each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_gateway.drivers.smp_udp import SmpUdpDriver
from device_gateway.virtual.host import Host, running_host
from device_gateway.virtual.provisioning import factory_image, factory_key
from device_gateway.virtual.settings import VirtualConfig
from shared.boards import board_named
from shared.emulation.mcuboot_image import McubootImage, read_image


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path


@pytest.fixture(scope="session")
def release_key(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The key that the builder signs with."""
    directory = tmp_path_factory.mktemp("keys")
    private, public = directory / "signing.pem", directory / "signing.pub.pem"
    key = factory_key(private)
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
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
        data = factory_image(board_named(board), key or release_key.private, version=version, padding=padding)
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


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two people, two environments, windows of ten samples of three channels."""
    generator = np.random.default_rng(1)
    path = tmp_path / "world.npz"
    np.savez_compressed(
        path,
        x=generator.normal(size=(40, 10, 3)).astype(np.float32),
        y=generator.integers(0, 4, 40),
        group=np.repeat([7, 8], 20),
        environment=np.tile(["right", "left"], 20),
    )
    return path
