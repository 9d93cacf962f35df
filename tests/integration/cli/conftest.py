"""The lab's commands against a lab that a test rules."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer
from shared.lab import Health
from tests.integration.cli.lab_cli import LabCli
from tests.integration.cli.small_desk import SmallLab, board_view


@pytest.fixture
def lab_cli(nats_server: EmbeddedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> LabCli:
    return LabCli(nats_server.url, tmp_path / "mine", capfd)


@pytest.fixture
async def lab(nc: Client) -> AsyncIterator[SmallLab]:
    m7 = board_view("m7-1", board="cortex-m7", health=Health.QUARANTINED, reason="its canary failed")
    async with SmallLab(nc, board_view("m4-1"), board_view("m4-2"), m7).open() as small:
        yield small
