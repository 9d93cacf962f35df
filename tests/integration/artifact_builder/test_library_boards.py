"""A manifest that names boards without a toolchain: their libraries are part of the release."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from services.artifact_builder.errors import BuildFailureError
from services.artifact_builder.pipeline import BuildRequest, BuildResult, Site, build_checkout
from services.artifact_builder.sandbox.plain import PlainProcess
from services.artifact_builder.tools import Tools
from services.model_validator.domain import LibraryFit, library_sizes
from shared.boards import LibraryBoard, board_named
from shared.releases.datasets import Dataset, write_dataset
from shared.releases.gates import passes
from shared.releases.manifest import Budget
from shared.releases.release import Release

MODEL = Path(__file__).parents[2] / "data" / "gestures" / "int8.tflite"
MANIFEST = """
version: 1
name: Gestures
labels: [up, down, still]
input: {{shape: [20, 3], channels: [ax, ay, az], minimum: -9, maximum: 9}}
data:
  train: {{path: train.npz}}
  test: {{path: test.npz}}
model: {{file: gestures.tflite}}
boards: {boards}
budgets: {budgets}
gates: {{accuracy: 0.5}}
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


async def built(folder: Path, tools: Tools, boards: list[str], budgets: dict[str, dict[str, int]]) -> BuildResult:
    checkout = folder / "checkout"
    checkout.mkdir()
    rng = np.random.default_rng(4)
    for name in ("train.npz", "test.npz"):
        x = rng.normal(0, 1, (90, 20, 3)).astype(np.float32)
        (checkout / name).write_bytes(write_dataset(Dataset(x, np.arange(90) % 3, np.full(90, name, dtype="<U20"))))
    (checkout / "gestures.tflite").write_bytes(MODEL.read_bytes())
    (checkout / "edgeloop.yaml").write_text(MANIFEST.format(boards=json.dumps(boards), budgets=json.dumps(budgets)))
    request = BuildRequest("gestures", "https://example.org/gestures", COMMIT)
    return await build_checkout(request, Site(checkout, folder, PlainProcess()), tools)


async def test_a_release_holds_the_libraries_and_says_why_there_is_no_image(tools: Tools, tmp_path: Path) -> None:
    boards = ["cortex-m0plus", "arduino-nano-33-iot", "arduino-portenta-h7", "espressif-esp-eye"]
    result = await built(tmp_path, tools, boards, {})
    release = Release.model_validate_json(result.release.to_bytes())
    assert [firmware.board for firmware in release.firmware] == ["cortex-m0plus"]
    assert [(library.board, library.kind) for library in release.libraries] == [
        ("arduino-nano-33-iot", "arduino"),
        ("arduino-portenta-h7", "arduino"),
        ("arduino-portenta-h7", "zephyr"),
        ("espressif-esp-eye", "esp-idf"),
    ]
    nano, *_, eye = release.libraries
    assert nano.flash_bytes is not None
    assert nano.flash_bytes < release.firmware[0].flash_bytes
    assert (eye.flash_bytes, eye.toolchain) == (None, "")
    assert "ESP-IDF" in eye.reason
    archive = next(artifact for artifact in result.artifacts if artifact.blob == nano.archive)
    with zipfile.ZipFile(io.BytesIO(archive.data)) as files:
        sketch = files.read("EdgeloopGestures/examples/Motion/Motion.ino").decode()
        header = files.read("EdgeloopGestures/src/edgeloop/edgeloop_facts.h").decode()
    assert "Arduino_LSM6DS3" in sketch
    assert '"up", "down", "still"' in header
    for name in boards[1:]:
        board = board_named(name)
        assert isinstance(board, LibraryBoard)
        assert passes(library_sizes(LibraryFit(board, Budget(), release.libraries_for(name))))


async def test_a_budget_of_a_library_board_is_held_against_model_and_kernels(tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(BuildFailureError, match=r"arduino-nano-33-iot takes .* \(budgets.arduino-nano-33-iot.flash"):
        await built(tmp_path, tools, ["cortex-m4", "arduino-nano-33-iot"], {"arduino-nano-33-iot": {"flash_bytes": 99}})
