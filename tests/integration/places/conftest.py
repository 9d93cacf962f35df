from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.device_lab.workshop import Workshop
from tests.integration.places.bench_board import BenchBoard
from tests.integration.places.gesture_work import Orders


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop.open(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def orders(workshop: Workshop) -> Orders:
    return Orders(workshop)


@pytest.fixture
def board(orders: Orders, tmp_path: Path) -> Iterator[BenchBoard]:
    """Real firmware of the gesture model, on QEMU."""
    board = BenchBoard(tmp_path, orders.blobs.kept[orders.image()])
    yield board
    board.close()
