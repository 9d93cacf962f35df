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
from tests.tflite_models import Model

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


def classifier(weight_scale: float, logit_scale: float) -> bytes:
    """Return a dense layer and a softmax. TFLM's softmax checks that its input's scale is above 1.5e-8, and aborts."""
    model = Model()
    graph = model.main
    window, rows = graph.input((1, 8, 1), 0.1), graph.tensor((1, 8), 0.1)
    weights = graph.constant(np.arange(16, dtype=np.int8).reshape(2, 8), weight_scale)
    bias = graph.constant(np.zeros(2, np.int32), 0.1 * weight_scale)
    logits, classes = graph.tensor((1, 2), logit_scale), graph.tensor((1, 2), 1 / 256, -128)
    graph.operator("RESHAPE", [window, graph.constant([1, 8])], [rows])
    graph.operator("FULLY_CONNECTED", [rows, weights, bias], [logits], "FullyConnected")
    graph.operator("SOFTMAX", [logits], [classes], "Softmax", beta=1.0)
    graph.outputs.append(classes)
    return model.pack()


AS_AFTER_TRAINING_ON_ZEROS = classifier(1e-10, 1e-10)
SOUND = classifier(0.02, 0.1)


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
    with pytest.raises(BuildFailureError, match=r"TFLM ends with signal 6 on this model.*Next:") as caught:
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
