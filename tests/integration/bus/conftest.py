import pytest
from nats.aio.client import Client

from tests.integration.bus.bench import Bench


@pytest.fixture
def bench(nc: Client) -> Bench:
    return Bench(nc)
