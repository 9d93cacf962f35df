"""What happens on a disk that is really full, and after there is room again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgeloop.layout import Layout
from shared.bus import Publisher, PublishError, connect, ensure_streams
from tests.integration.disk.conftest import Disk
from tests.support import eventually


@contextmanager
def nats_on(layout: Layout) -> Iterator[None]:
    layout.nats.mkdir(parents=True)
    state_file = layout.state_file_of("nats")
    command = [sys.executable, "-m", "edgeloop.stack.nats_process", str(layout.nats), "0", str(state_file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield
        process.send_signal(signal.SIGTERM)


async def test_the_bus_stores_again_once_there_is_room_and_has_lost_nothing(disk: Disk) -> None:
    layout = Layout(disk.root)
    with nats_on(layout):
        await eventually(layout.state_file_of("nats").exists)
        state = layout.service_state("nats")
        assert state is not None
        nc = await connect(state.http, name="test")
        await ensure_streams(nc.jetstream())
        publisher, stored = Publisher(nc, "test", deadline_s=0.5), 3
        for number in range(stored):
            await publisher.publish_message("edgeloop.audit.x", os.urandom(50_000), str(number))
        disk.fill()
        with pytest.raises(PublishError):
            await publisher.publish_message("edgeloop.audit.x", os.urandom(50_000), "too much")
        disk.free()

        async def stores_again() -> bool:
            try:
                return not await publisher.publish_message("edgeloop.audit.x", b"after", "after")
            except PublishError:
                return False

        await eventually(stores_again)
        assert (await nc.jetstream().stream_info("AUDIT")).state.messages == stored + 1
        await nc.close()
