"""Every format of models, from a step or a file of the repository to int8: TensorFlow's own process included."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.errors import AuthorError
from services.artifact_builder.inputs.quantising import Converted
from services.artifact_builder.pipeline import Build, BuildRequest, Site
from services.artifact_builder.sandbox.plain import PlainProcess
from services.artifact_builder.stages import Stages
from services.artifact_builder.steps import datasets
from services.artifact_builder.tools import Tools
from services.artifact_builder.trees import Tree
from shared.releases.datasets import Dataset, read_dataset, write_dataset
from shared.releases.manifest import Manifest
from shared.releases.manifest_loader import parse_manifest
from shared.releases.model_formats import ModelFormat

DATA = Path(__file__).parents[2] / "data"
MANIFEST = """
version: 1
name: Gestures
labels: [up, down, still]
input: {{shape: [20, 3], minimum: -9, maximum: 9}}
data:
  train: {{path: train.npz}}
  test: {{path: data/test.npz, role: expanded}}
  more: [{{path: made.npz, role: synthetic}}]
model: {model}
boards: [cortex-m4]
gates: {{accuracy: 0.5}}
"""
EXPORT = """
import os
import keras
from keras import layers
keras.utils.set_random_seed(int(os.environ["EDGELOOP_SEED"]))
assert sorted(os.listdir(os.environ["EDGELOOP_DATA_DIR"])) == ["data", "made.npz", "train.npz"]
model = keras.Sequential([
    layers.Input((20, 3)), layers.Conv1D(4, 3, activation="relu"), layers.GlobalAveragePooling1D(), layers.Dense(3),
])
model.export(os.environ["EDGELOOP_OUTPUT_DIR"] + "/saved", verbose=False)
"""


def manifest(model: dict[str, Any]) -> Manifest:
    return parse_manifest(MANIFEST.format(model=json.dumps(model)))


def checkout(folder: Path, files: dict[str, bytes], window: tuple[int, ...] = (20, 3)) -> Site:
    """Make a repository whose datasets are its own files."""
    rng = np.random.default_rng(4)
    for name in ("train.npz", "data/test.npz", "made.npz"):
        rows = Dataset(
            rng.normal(0, 1, (90, *window)).astype(np.float32), np.arange(90) % 3, np.full(90, name, dtype="<U20")
        )
        path = folder / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_dataset(rows))
    for name, data in files.items():
        (folder / "checkout" / name).write_bytes(data)
    return Site(folder / "checkout", folder, PlainProcess())


def building(site: Site, tools: Tools, production: tuple[bytes, ...] = ()) -> tuple[Build, Tree]:
    request = BuildRequest("gestures", "file:///gestures", "0" * 40, production=production)
    return Build(request, site, tools, Stages()), Tree.of(site.checkout)


async def built(site: Site, declared: Manifest, tools: Tools) -> tuple[dict[str, bytes], Converted]:
    build, tree = building(site, tools)
    data = await build.prepare(declared, tree)
    prepared = datasets(data)
    return prepared, await build.quantise(declared, prepared, await build.train(declared, tree, data))


@pytest.mark.slow
async def test_a_saved_model_from_a_step_gives_the_same_bytes_twice(tools: Tools, tmp_path: Path) -> None:
    declared = manifest({"train": {"command": ["python", "train.py"]}, "path": "saved/"})
    results = [
        (await built(checkout(tmp_path / name, {"train.py": EXPORT.encode()}), declared, tools))[1] for name in "ab"
    ]
    assert results[0] == results[1]
    assert results[0].source.format is ModelFormat.SAVED_MODEL
    assert results[0].float32
    assert results[0].recipe is not None


@pytest.mark.slow
async def test_a_loop_in_a_saved_model_is_refused_by_its_name(tools: Tools, tmp_path: Path) -> None:
    declared = manifest({"train": {"command": ["python", "train.py"]}, "path": "saved/"})
    code = EXPORT.replace("layers.GlobalAveragePooling1D()", "layers.GRU(5, name='memory')")
    with pytest.raises(AuthorError, match=r"the node \S*memory\S*while is a loop, While; .* Next: .*\.keras file"):
        await built(checkout(tmp_path, {"train.py": code.encode()}), declared, tools)


@pytest.mark.slow
async def test_an_onnx_file_is_converted_where_steps_run(tools: Tools, tmp_path: Path) -> None:
    model = (DATA / "onnx" / "torch_cnn.onnx").read_bytes()
    site = checkout(tmp_path, {"m.onnx": model}, window=(64, 3))
    text = MANIFEST.format(model="{file: m.onnx}").replace("[20, 3]", "[64, 3]")
    _, converted = await built(site, parse_manifest(text), tools)
    parity = converted.conversion.parity
    assert parity is not None
    assert (parity.rows, parity.equal_answers) == (90, 1)
    assert converted.source.data != model, "kept in canonical form"
    assert converted.recipe is not None
    assert converted.recipe.onnxruntime


async def test_a_model_that_is_int8_already_is_taken_as_it_is(tools: Tools, tmp_path: Path) -> None:
    model = (DATA / "gestures" / "int8.tflite").read_bytes()
    site = checkout(tmp_path, {"gestures.tflite": model})
    prepared, converted = await built(site, manifest({"file": "gestures.tflite"}), tools)
    assert (converted.int8, converted.source.data, converted.float32, converted.recipe) == (model, model, None, None)
    assert list(prepared) == ["train", "test", "made.npz"]
    assert len(read_dataset(prepared["made.npz"])) == 90


async def test_a_float_tflite_is_refused(tools: Tools, tmp_path: Path) -> None:
    site = checkout(tmp_path, {"m.tflite": (DATA / "gestures" / "float32.tflite").read_bytes()})
    with pytest.raises(AuthorError, match="is a float model"):
        await built(site, manifest({"file": "m.tflite"}), tools)


async def test_a_dataset_that_the_repository_lacks_is_named(tools: Tools, tmp_path: Path) -> None:
    site = checkout(tmp_path, {})
    (site.checkout / "made.npz").unlink()
    with pytest.raises(AuthorError, match=r"data\.more\[0\]\.path: the repository has no made\.npz"):
        await built(site, manifest({"file": "m.tflite"}), tools)


async def test_a_finished_model_cannot_be_retrained(tools: Tools, tmp_path: Path) -> None:
    site = checkout(tmp_path, {})
    field = (site.checkout / "train.npz").read_bytes()
    build, tree = building(site, tools, (field,))
    with pytest.raises(AuthorError, match=r"model\.file \(m\.tflite\) is a finished model"):
        await build.prepare(manifest({"file": "m.tflite"}), tree)


async def test_without_a_preparation_the_training_is_told_of_production_data(tools: Tools, tmp_path: Path) -> None:
    code = b"import os; raise SystemExit(str(os.listdir(os.environ['EDGELOOP_PRODUCTION_DIR'])))"
    site = checkout(tmp_path, {"train.py": code})
    declared = manifest({"train": {"command": ["python", "train.py"]}})
    build, tree = building(site, tools, ((site.checkout / "train.npz").read_bytes(),))
    data = await build.prepare(declared, tree)
    with pytest.raises(AuthorError) as caught:
        await build.train(declared, tree, data)
    assert list(caught.value.last_lines) == ["['0000.npz']"]


async def test_a_folder_is_no_file_and_a_file_no_folder(tools: Tools, tmp_path: Path) -> None:
    site = checkout(tmp_path, {"saved": b"x"})
    (site.checkout / "m.onnx").mkdir()
    for name in ("saved/", "m.onnx"):
        with pytest.raises(AuthorError, match=f"the repository has no {name}"):
            await built(Site(site.checkout, tmp_path / f"for-{name}", PlainProcess()), manifest({"file": name}), tools)
    shutil.rmtree(site.checkout)
