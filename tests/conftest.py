"""Fixtures for every test: a private NATS server costs 13 ms. How tests are dealt out to processes."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from nats.aio.client import Client

from shared.bus import EmbeddedServer, connect, ensure_streams

# Shared machines are slow at times: a deadline per example would only make tests flicker.
settings.register_profile(
    "edgeloop", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("edgeloop")


def pytest_xdist_auto_num_workers() -> int | None:
    """Run one process more than there are cores: a fifth of a run is waiting, for clocks, disks and other programs."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, in whatever order the others are: begun last, it would run alone for a minute."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def zig_cache(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Of every test and command, and kept between runs: the compiler's own library takes seconds for each core."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("zig"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELOOP_COMPILER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder for all processes of a run."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A private, empty NATS server that a test may kill and start again."""
    server = EmbeddedServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def nc(nats_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A connection to the private server, with our streams."""
    client = await connect(nats_server.url, name="test")
    await ensure_streams(client.jetstream())
    yield client
    await client.close()
