"""A gateway with a board of the lab: the real process, the real bus, real firmware; killed, and started again."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which

import pytest
from nats.aio.client import Client

from edgeloop.cli import execute
from shared.bus import EmbeddedServer
from shared.bus.exchanges import RefusedError, ask
from shared.lab.messages import (
    ANNOUNCEMENTS,
    Announced,
    AskProgress,
    Begin,
    Done,
    Grant,
    RefusalKind,
    Touch,
    Work,
    WorkState,
)
from shared.lab.verdict import AttemptOutcome
from shared.procedures.staging import read_run
from shared.store import Blobs
from tests.integration.places.asking import ROOT, done, progress
from tests.integration.places.bench_board import BenchBoard
from tests.integration.places.gesture_work import Orders, gestures, repeated
from tests.serial_ports import Rfc2217Server
from tests.support import ServiceProcess, eventually

pytestmark = pytest.mark.skipif(
    which("qemu-system-arm") is None, reason="needs qemu-system-arm: apt-get install qemu-system-arm"
)


def gateway_with(config: Path, bus: EmbeddedServer) -> ServiceProcess:
    command = ("-m", "device_gateway")
    return ServiceProcess(
        "device_gateway", bus.url, config.parent, command=command, EDGELOOP_GATEWAY_CONFIG=str(config)
    )


@pytest.fixture
async def gateway(nats_server: EmbeddedServer, board: BenchBoard, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    with Rfc2217Server(board.url) as far:
        config = tmp_path / "gateway.yaml"
        config.write_text(
            "gateway: rack-1\nproject: demo\nlab:\n  boards:\n"
            f"    - {{name: bench-1, board: cortex-m4, port: '{far.url}'}}\n"
        )
        process = gateway_with(config, nats_server)
        process.start()
        yield process
        if process.running:
            process.stop()


async def put(nc: Client, orders: Orders, work: Work) -> Work:
    blobs = Blobs(nc.jetstream())
    for digest in (work.image, work.workload):
        await blobs.put(orders.blobs.kept[digest], media_type="application/octet-stream")
    return work


async def announced(nc: Client, *, after: str = "") -> Announced:
    """Return what a place says that has found out who its board is."""
    heard = await nc.subscribe(ANNOUNCEMENTS)
    while True:
        said = Announced.model_validate_json((await heard.next_msg(timeout=60)).data)
        if said.epoch != after and all(offered.identity for offered in said.boards):
            await heard.unsubscribe()
            return said


async def test_a_gateways_board_is_announced_staged_and_forgotten_with_the_process(
    nc: Client, gateway: ServiceProcess, orders: Orders
) -> None:
    before = await announced(nc)
    [offered] = before.boards
    assert (offered.name, offered.identity) == ("bench-1", "dut:edgeloop")
    work = await put(nc, orders, orders.work(orders.image(), identity=offered.identity))
    await done(nc, Grant(board="bench-1", token=1, ttl_s=600))
    await done(nc, Begin(board="bench-1", token=1, work=work))

    async def is_over() -> bool:
        return (await progress(nc, "bench-1", 1)).state is WorkState.ENDED

    await eventually(is_over)
    found = await progress(nc, "bench-1", 1)
    assert found.outcome is AttemptOutcome.PASSED, found.said
    assert read_run(found.report).mismatches == 0

    long = await put(nc, orders, orders.work(orders.image(), "parity", repeated(gestures(), 500)))
    await done(nc, Grant(board="bench-1", token=2, ttl_s=600))
    await done(nc, Begin(board="bench-1", token=2, work=long))
    gateway.stop(signal.SIGKILL)
    gateway.start()
    after = await announced(nc, after=before.epoch)
    assert after.epoch != before.epoch
    await done(nc, Grant(board="bench-1", token=3, ttl_s=600))
    for stale in (Touch(board="bench-1", token=2, write=b"late"), AskProgress(board="bench-1", token=2)):
        with pytest.raises(RefusedError, match="found token 2, allowed is 3") as refused:
            await ask(nc, ROOT, stale, Done)
        assert refused.value.code == RefusalKind.STALE_TOKEN
    assert gateway.stop(signal.SIGTERM) == 0, gateway.log()


async def test_a_hardware_maps_board_is_announced_by_the_gateway_of_its_place(
    nc: Client, nats_server: EmbeddedServer, board: BenchBoard, tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text(
        "- {connected: true, id: 'dut:edgeloop', platform: mps2/an386, product: bench, runner: qemu,"
        f" serial: '{board.url}'}}\n"
    )
    inventory = tmp_path / "racks" / "lab.yaml"
    inventory.parent.mkdir()
    imports = ["lab", "import", "--inventory", str(inventory), "--twister", str(tmp_path / "map.yaml")]
    assert execute([*imports, "--place", "rack-1", "--map", "mps2/an386=cortex-m4"]) == 0
    config = tmp_path / "gateway.yaml"
    config.write_text("gateway: rack-1\nproject: demo\nlab: {inventory: racks/lab.yaml}\n")
    process = gateway_with(config, nats_server)
    process.start()
    try:
        said = await announced(nc)
        assert said.place == "rack-1"
        [offered] = said.boards
        assert (offered.name, offered.board, offered.identity) == ("cortex-m4-1", "cortex-m4", "dut:edgeloop")
    finally:
        process.stop()
