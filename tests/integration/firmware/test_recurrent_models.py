"""Recurrent layers of Keras, from a model as people write it to firmware: nobody has to unroll anything."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import generate
from services.artifact_builder.determinism import TENSORFLOW_ENVIRONMENT
from services.artifact_builder.inputs import conversion
from shared.boards import image_board
from shared.emulation.on_unicorn import boot_unicorn
from shared.inference.litert import litert_float_outputs
from shared.releases.model_formats import ModelFormat
from tests.support import made_once

Images = Callable[..., bytes]
Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]

_ROOT = Path(__file__).parents[3]
_WINDOW = (12, 4)
_ROWS = 60
_SHOWN = 6
_TRAINING = """
import keras
import numpy as np
from keras import layers
keras.utils.set_random_seed(3)
LAYERS = {
    "an LSTM": [layers.LSTM(6)],
    "stacked LSTMs behind a convolution": [
        layers.Conv1D(5, 3, activation="relu"), layers.LSTM(7, return_sequences=True), layers.LSTM(5, use_bias=False),
    ],
    "LSTMs in both directions": [
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)), layers.Bidirectional(layers.LSTM(4)),
    ],
    "an LSTM backwards with another activation": [layers.LSTM(5, activation="relu", go_backwards=True)],
    "a GRU": [layers.GRU(5)],
    "a simple RNN": [layers.SimpleRNN(6)],
}
x = np.load("train.npz")["x"]
for name, stack in LAYERS.items():
    model = keras.Sequential([layers.Input((12, 4)), *stack, layers.Dense(3, activation="softmax")])
    model.save(name + ".keras")
    np.save(name + ".npy", model.predict(x, verbose=0))
"""
_FUSED = {"an LSTM": 1, "stacked LSTMs behind a convolution": 2, "LSTMs in both directions": 4}


def _windows() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(0, 1, (_ROWS, *_WINDOW)).astype(np.float32)


def _run(folder: Path, *command: str) -> None:
    environment = {**os.environ, **TENSORFLOW_ENVIRONMENT, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    problem = folder / conversion.PROBLEM_FILE
    assert ended.returncode == 0, problem.read_text() if problem.is_file() else ended.stderr[-2000:]


@pytest.fixture(scope="module")
def keras_models(shared_folder: Path) -> Path:
    """A folder with every model, what it answers, and the windows: TensorFlow is imported once for all."""

    def make(folder: Path) -> None:
        np.savez(folder / "train.npz", x=_windows(), y=np.arange(_ROWS) % 3)
        _run(folder, "-c", _TRAINING)

    return made_once(shared_folder / "recurrent-models", make)


def _converted(keras_models: Path, layers: str, folder: Path) -> tuple[bytes, bytes, NDArray[np.float32]]:
    """Return the float32 model, the int8 one, and what Keras answers."""
    shutil.copy(keras_models / "train.npz", folder)
    shutil.copy(keras_models / f"{layers}.keras", folder / "model.keras")
    conversion.Request("model.keras", ModelFormat.KERAS, "train.npz", seed=1, classes=3).write(folder)
    _run(folder, "-m", conversion.__name__, conversion.REQUEST_FILE)
    float32, int8 = ((folder / name).read_bytes() for name in (conversion.FLOAT32_FILE, conversion.INT8_FILE))
    return float32, int8, np.load(keras_models / f"{layers}.npy")


@pytest.mark.slow
@pytest.mark.parametrize(
    "layers",
    [*_FUSED, "an LSTM backwards with another activation", "a GRU", "a simple RNN"],
)
def test_recurrent_layers_are_converted_as_they_are(
    layers: str, keras_models: Path, tmp_path: Path, make_image: Images, tflm: Reference
) -> None:
    float32, int8, answers = _converted(keras_models, layers, tmp_path)
    # One window after the other in one interpreter: a state that outlived its window would show here.
    np.testing.assert_allclose(litert_float_outputs(float32, _windows()), answers, atol=1e-5)
    generated = generate(int8)
    assert int8.count(b"zeros of") == 2 * _FUSED.get(layers, 0)
    quantised = np.round(_windows() / generated.input.scale) + generated.input.zero_point
    rows = np.clip(quantised, -128, 127).astype(np.int8)
    theirs = tflm(int8, rows)
    board = boot_unicorn(make_image(generated), image_board("cortex-m4"))
    assert [board.infer(row.tobytes()).output for row in rows[:_SHOWN]] == theirs[:_SHOWN]
    scores = np.frombuffer(b"".join(theirs), np.int8).reshape(answers.shape).astype(np.float32)
    scores = (scores - generated.output.zero_point) * np.float32(generated.output.scale)
    assert np.abs(scores - answers).max() < 0.05
    assert board.infer(rows[0].tobytes()).output == theirs[0]


@pytest.mark.slow
def test_a_fused_lstm_gives_the_same_bytes_twice(keras_models: Path, tmp_path: Path) -> None:
    results = []
    for name in "ab":
        (tmp_path / name).mkdir()
        results.append(_converted(keras_models, "LSTMs in both directions", tmp_path / name)[:2])
    assert results[0] == results[1]
