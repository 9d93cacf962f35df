"""Firmware of a real model, really executed: smoke test on the board, predictions, telemetry, accuracy."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from device_gateway.polling import collect, deliver, look_at_boards
from device_gateway.virtual.api import application
from device_gateway.virtual.host import Host
from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.firmware.signing import sign_image
from shared.boards import image_board
from shared.emulation.mcuboot_image import read_image
from shared.events import digest_of
from shared.events.device import GoldenVector, InstallOutcome
from shared.inference.tflm import tflm_outputs
from shared.releases.histograms import quantise
from tests.data.gestures.release import INT8, quantisation, windows
from tests.support import eventually

from .conftest import RELEASE, Image, Keys, OpenRack, Rack

BOARD = "cortex-m4"


@pytest.fixture(scope="module")
def firmware(release_key: Keys, tmp_path_factory: pytest.TempPathFactory, zig_cache: Path) -> Image:
    """The gesture model as signed firmware."""
    folder = tmp_path_factory.mktemp("firmware")
    compiled = compile_firmware(
        generate(INT8),
        image_board(BOARD),
        model_digest=digest_of(INT8),
        workdir=folder,
        cache_dir=zig_cache,
    )
    signed = sign_image(
        compiled.binary,
        image_board(BOARD),
        version="1.0.0+7",
        model_digest=digest_of(INT8),
        key=release_key.private,
    )
    return Image(signed.data, read_image(signed.data))


@pytest.fixture(scope="module")
def golden() -> GoldenVector:
    x, _ = windows(1, seed=5)
    q = quantise(x, quantisation("input"))
    return GoldenVector(input=q[0].tobytes(), output=tflm_outputs(INT8, q)[0].tobytes())


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two people; in the other environment all labels are wrong, which is drift enough to be seen."""
    x, y = windows(60, seed=9)
    path = tmp_path / "world.npz"
    np.savez(
        path,
        x=np.concatenate([x, x]),
        y=np.concatenate([y, (y + 1) % 3]),
        group=np.tile(np.repeat([1, 2], 30), 2),
        environment=np.repeat(["right", "left"], 60),
    )
    return path


def scores(rows: list[dict[str, str | int]], environment: str) -> tuple[int, int]:
    chosen = [row for row in rows if row["environment"] == environment]
    return sum(int(row["correct"]) for row in chosen), sum(int(row["total"]) for row in chosen)


async def wait_for_predictions(host: Host, environment: str, count: int) -> tuple[int, int]:
    await eventually(lambda: scores(host.ledger.rows(), environment)[1] >= count)
    return scores(host.ledger.rows(), environment)


async def installed(open_rack: OpenRack, firmware: Image, golden: GoldenVector, **changes: object) -> Rack:
    rack = await open_rack(period_s=0.02, **changes)
    for number, device in enumerate(rack.host.boards):
        observed, _ = await rack.install(rack.order(firmware, golden=golden, device=device, fencing_token=number + 1))
        assert observed.outcome is InstallOutcome.VERIFIED, observed.detail
    return rack


async def test_the_smoke_test_runs_on_the_board_bit_by_bit(
    open_rack: OpenRack, firmware: Image, golden: GoldenVector
) -> None:
    rack = await installed(open_rack, firmware, golden)
    assert rack.host.describe()[0]["model"] is True


async def test_a_model_that_answers_other_bits_is_reverted(
    open_rack: OpenRack, firmware: Image, golden: GoldenVector
) -> None:
    rack = await open_rack()
    wrong = GoldenVector(input=golden.input, output=bytes([golden.output[0] ^ 1]) + golden.output[1:])
    observed, _ = await rack.install(rack.order(firmware, golden=wrong))
    assert observed.outcome is InstallOutcome.REVERTED
    assert f"1 of {len(golden.output)} output bytes differ" in observed.detail
    assert rack.host.describe()[0]["model"] is False


async def test_predictions_are_counted_on_the_board_and_scored_in_its_process_only(
    open_rack: OpenRack, firmware: Image, golden: GoldenVector, world: Path
) -> None:
    rack = await installed(open_rack, firmware, golden, world=world)
    transport = httpx.ASGITransport(application(rack.host))
    async with httpx.AsyncClient(transport=transport, base_url="http://boards") as client:
        correct, total = await wait_for_predictions(rack.host, "right", 30)
        assert correct / total > 0.8
        assert (await client.put("/environment", json={"name": "left"})).json()["name"] == "left"
        correct, total = await wait_for_predictions(rack.host, "left", 30)
        assert correct / total < 0.2
        refused = await client.put("/environment", json={"name": "upside-down"})
        assert (refused.status_code, "right, left" in refused.json()["error"]) == (422, True)
        rows = (await client.get("/accuracy?reset=1")).json()
        assert {row["image_hash"] for row in rows} == {firmware.hash}
        assert scores((await client.get("/accuracy")).json(), "left")[1] < 30


async def test_telemetry_is_stored_published_once_and_not_lost_while_the_bus_is_away(
    open_rack: OpenRack, firmware: Image, golden: GoldenVector, world: Path
) -> None:
    rack = await installed(open_rack, firmware, golden, world=world, count=2)
    await look_at_boards(rack.gateway)
    await wait_for_predictions(rack.host, "right", 10)
    await collect(rack.gateway)
    # The gateway dies here, before it published: the next one has the batch.
    blobs, rack = rack.blobs, await open_rack()
    rack.blobs.update(blobs)
    await look_at_boards(rack.gateway)
    await deliver(rack.gateway)
    for _ in range(3):
        await wait_for_predictions(rack.host, "right", scores(rack.host.ledger.rows(), "right")[1] + 6)
        await collect(rack.gateway)
        await deliver(rack.gateway)
    assert [batch.sequence for batch in rack.published] == [1, 2, 3, 4]
    reports = [report for batch in rack.published for report in batch.reports]
    assert {report.digest for report in reports} == {RELEASE}
    for device in ("board-0", "board-1"):
        assert [report.sequence for report in reports if report.device == device] == [1, 2, 3, 4]
    counted = sum(report.inferences for report in reports)
    assert 0 <= scores(rack.host.ledger.rows(), "right")[1] - counted <= 2 * 8
    for report in reports:
        assert sum(report.class_counts) == sum(report.confidence.counts) == report.inferences
        assert [sum(histogram.counts) for histogram in report.inputs] == [20 * report.inferences] * 3


async def test_a_report_belongs_to_the_image_that_ran(
    open_rack: OpenRack, firmware: Image, golden: GoldenVector, world: Path, release_key: Keys
) -> None:
    rack = await installed(open_rack, firmware, golden, world=world)
    await wait_for_predictions(rack.host, "right", 5)
    compiled = firmware.parsed.payload
    second = sign_image(
        compiled, image_board(BOARD), version="1.1.0+8", model_digest=digest_of(INT8), key=release_key.private
    )
    other = "sha256:" + "b" * 64
    order = rack.order(Image(second.data, read_image(second.data)), digest=other, golden=golden, fencing_token=9)
    observed, _ = await rack.install(order)
    assert observed.outcome is InstallOutcome.VERIFIED, observed.detail
    await look_at_boards(rack.gateway)

    async def digests_reported() -> list[str]:
        await collect(rack.gateway)
        await deliver(rack.gateway)
        found = [report.digest for batch in rack.published for report in batch.reports]
        return found if other in found else []

    digests = await eventually(digests_reported)
    assert digests[0] == RELEASE
    assert digests[-1] == other
    assert digests == sorted(digests)
