"""`edgeloop lab submit`: what places will be asked to do, with the bytes they need, and verdicts as exit codes."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from nats.aio.client import Client

from shared.emulation.mcuboot_image import read_image
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.lab import JobKind, VerdictKind
from shared.procedures.workloads import read_workload
from shared.releases.histograms import quantise
from shared.store import Blobs
from tests.data.gestures.release import FOLDER, MemoryBlobs, gestures_release, quantisation, recordings
from tests.integration.cli.lab_cli import LabCli
from tests.integration.cli.small_desk import SmallLab
from tests.integration.device_lab.workshop import Workshop
from tests.support import eventually

MODEL = FOLDER / "int8.tflite"
ROWS = 12
MCUBOOT_MAGIC = b"\x3d\xb8\xf3\x96"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MemoryBlobs:
    """What a release with firmware for two boards is made of, built once."""
    blobs, workshop = MemoryBlobs(), Workshop.open(tmp_path_factory.mktemp("workshop"))
    firmware = tuple(workshop.build(blobs, board) for board in ("cortex-m4", "cortex-m7"))
    gestures_release(blobs, test=recordings(ROWS, 3, "a"), firmware=firmware)
    return blobs


@pytest.fixture
async def release(nc: Client, kept: MemoryBlobs) -> str:
    """That release in the object store; its digest."""
    blobs = Blobs(nc.jetstream())
    for data in kept.kept.values():
        await blobs.put(data, media_type="application/octet-stream")
    return list(kept.kept)[-1]


async def test_a_release_is_tested_on_its_own_test_set_with_its_own_image(
    lab_cli: LabCli, lab: SmallLab, nc: Client, release: str
) -> None:
    code, job = await lab_cli("submit", release, "--procedure", "acceptance", "--need", "core in cortex-m4",
                              "--need", "ram>=64k", "--count", "2", "--limit", "5m", "--priority", "3")  # fmt: skip
    assert (code, [lease["board"] for lease in job["held"]]) == (0, ["m4-1", "m4-2"])
    (order,) = lab.submitted
    assert order.demands == ("board in cortex-m4; core in cortex-m4; ram>=65536",) * 2
    assert (order.project, order.kind, order.priority, order.limit_s) == ("acme-gestures", JobKind.TEST, 3, 300)
    assert order.id.startswith("acceptance-")
    work, again = order.work
    assert (work, work.procedure, work.deadline_s) == (again, "acceptance", 300)
    assert (work.release, work.numerics) == (release, Numerics.TFLM)
    assert "zig" in work.toolchain
    workload, effort = read_workload(await Blobs(nc.jetstream()).get(work.workload))
    image = read_image(await Blobs(nc.jetstream()).get(work.image))
    assert (workload.board.name, len(workload.inputs), workload.accuracy) == ("cortex-m4", ROWS, 0.9)
    assert workload.labels is not None
    assert effort.windows is None
    assert image.image_hash


async def test_waiting_for_a_model_exits_by_the_verdict(lab_cli: LabCli, lab: SmallLab, tmp_path: Path) -> None:
    dataset = recordings(ROWS, 5, "a")
    np.save(tmp_path / "x.npy", quantise(dataset.x, quantisation("input")))
    np.save(tmp_path / "y.npy", dataset.y)
    recorded = ["--inputs", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "y.npy"), "--procedure", "acceptance"]
    waiting = lab_cli.process("submit", str(MODEL), "--board", "cortex-m4", "--id", "nightly", "--project", "mine",
                              "--benchmark", "--wait", "--json", *recorded)  # fmt: skip
    await eventually(lambda: lab.orders.get("nightly"))
    lab.end("nightly", VerdictKind.FAILED, "accuracy 0.7")
    out, err = await asyncio.to_thread(waiting.communicate)
    assert waiting.returncode == 1, err.decode()
    assert json.loads(out)["reason"] == "accuracy 0.7"
    (order,) = lab.submitted
    assert (order.project, order.kind) == ("mine", JobKind.BENCHMARK)


async def test_an_image_is_tested_against_its_model(
    lab_cli: LabCli, lab: SmallLab, nc: Client, kept: MemoryBlobs, tmp_path: Path
) -> None:
    data = next(data for data in kept.kept.values() if data.startswith(MCUBOOT_MAGIC))
    image = tmp_path / "firmware.img"
    image.write_bytes(data)
    code, _ = await lab_cli("submit", str(image), "--model", str(MODEL), "--board", "cortex-m4")
    assert (code, lab.submitted[0].work[0].image) == (0, digest_of(data))
    assert await Blobs(nc.jetstream()).get(digest_of(data)) == data


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{release}"], "firmware for cortex-m4, cortex-m7, and any of them would do"),
        (["{release}", "--need", "core in cortex-m33"], "no board that the release has firmware for meets it"),
        (["{release}", "--board", "cortex-m33"], "--board cortex-m33: the release has firmware for cortex-m4"),
        (["{release}", "--board", "cortex-m4", "--accuracy", "0.5"], "--accuracy: a release is tested on its own"),
        (["sha256:" + "0" * 64], "no release sha256:000"),
        (["{model}", "--board", "cortex-m4", "--need", "ram>=1000M"], "cortex-m4 never meets it"),
        (["{model}"], "for which board?"),
        (["{model}", "--board", "cortex-m9"], "cortex-m9"),
        (["{model}", "--board", "cortex-m4", "--procedure", "acceptance"], "no inputs of known classes"),
        (["{labels}", "--board", "cortex-m4"], "name its model too"),
        (["{labels}", "--board", "cortex-m4", "--model", "{model}"], "not a signed MCUboot image"),
        (["missing", "--board", "cortex-m4"], "missing: no such file"),
        (["{model}", "--board", "cortex-m4", "--id", "no spaces"], "--id 'no spaces'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
async def test_bad_input_is_named(
    lab_cli: LabCli, release: str, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "labels").write_text("no image")
    names = {"release": release, "model": MODEL, "labels": tmp_path / "labels"}
    code, _, err = await lab_cli.text("submit", *(argument.format(**names) for argument in arguments))
    assert (code, said in err) == (2, True), err
    assert "Traceback" not in err
