"""A runtime that ends its process over a model: the author's failure, and the builder lives on."""

from pathlib import Path

import numpy as np
import pytest

from services.artifact_builder.codegen import generate
from services.artifact_builder.errors import AuthorError, BuildFailureError
from services.artifact_builder.pipeline import BuildRequest, Site, build_checkout
from services.artifact_builder.programs import Room
from services.artifact_builder.running import outputs_of
from services.artifact_builder.sandbox.plain import PlainProcess
from services.artifact_builder.tools import Tools
from shared.events.artifact import BuildStage
from shared.events.lab import Numerics
from shared.inference.tflm import tflm_outputs
from shared.releases.datasets import Dataset, write_dataset
from tests.tflite_models import AS_AFTER_TRAINING_ON_ZEROS, SOUND

MANIFEST = """
version: 1
name: Gestures
labels: [up, down]
input: {shape: [8, 1], minimum: -1, maximum: 1}
data: {train: {path: train.npz}, test: {path: test.npz}}
model: {file: model.tflite}
boards: [cortex-m4]
gates: {accuracy: 0.5}
"""


@pytest.fixture
def room(tmp_path: Path, tools: Tools) -> Room:
    return Room.of(tmp_path / "room", PlainProcess(), tools)


async def test_a_model_over_which_tflm_aborts_is_a_failed_build_that_says_what_to_do(
    tools: Tools, tmp_path: Path
) -> None:
    generate(AS_AFTER_TRAINING_ON_ZEROS, Numerics.TFLM)  # nothing before TFLM itself refuses this model
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    zeros = write_dataset(Dataset(np.zeros((4, 8, 1), np.float32), np.arange(4) % 2, np.arange(4)))
    for name, content in {
        "edgeloop.yaml": MANIFEST.encode(),
        "model.tflite": AS_AFTER_TRAINING_ON_ZEROS,
        "train.npz": zeros,
        "test.npz": zeros,
    }.items():
        (checkout / name).write_bytes(content)
    site = Site(checkout, tmp_path / "work", PlainProcess())
    with pytest.raises(BuildFailureError, match=r"TFLM ends with signal 6 .SIGABRT. on model sha256:.*Next:") as caught:
        await build_checkout(BuildRequest("gestures", "file:///gestures", "0" * 40), site, tools)
    assert caught.value.stage is BuildStage.GENERATE


async def test_a_sound_model_gives_the_same_bits_in_a_process_of_its_own(room: Room) -> None:
    inputs = np.random.default_rng(1).integers(-128, 128, (5, 8, 1), np.int8)
    outputs = await outputs_of(Numerics.TFLM, SOUND, inputs, room)
    np.testing.assert_array_equal(outputs, tflm_outputs(SOUND, inputs))
    assert len(np.unique(outputs)) > 2


async def test_what_the_runtime_says_of_a_model_that_it_refuses_reaches_the_author(room: Room) -> None:
    with pytest.raises(AuthorError, match="TFLM cannot load the model"):
        await outputs_of(Numerics.TFLM, b"no model at all", np.zeros((1, 8, 1), np.int8), room)
