"""What PyTorch's two exporters make of networks, from the ONNX file to firmware with the reference's bits."""

import json
import os
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
from shared.events.lab import Numerics
from shared.inference.litert import litert_int8_outputs
from shared.releases.model_formats import ModelFormat

Images = Callable[..., bytes]
Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]

_ROOT = Path(__file__).parents[3]
_EXPORTED = _ROOT / "tests" / "data" / "onnx"
_ROWS, _COMPARED = 60, 8
_NETWORKS = {
    "torch_lstm": ((12, 4), "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "torch_gru": ((12, 4), "LOGISTIC"),
    "torch_picture": ((8, 8, 3), "RESIZE_NEAREST_NEIGHBOR"),
}
"""Windows, and an operator that has to be there."""


def _converted(name: str, window: tuple[int, ...], folder: Path) -> tuple[bytes, float, NDArray[np.float32]]:
    """Return the int8 model, how far the float32 one is from onnxruntime, and the windows."""
    x = np.random.default_rng(5).normal(0, 1, (_ROWS, *window)).astype(np.float32)
    np.savez(folder / "train.npz", x=x, y=np.arange(_ROWS) % 3)
    (folder / "model.onnx").write_bytes((_EXPORTED / f"{name}.onnx").read_bytes())
    conversion.Request("model.onnx", ModelFormat.ONNX, "train.npz", seed=1, classes=3).write(folder)
    environment = {**os.environ, **TENSORFLOW_ENVIRONMENT, "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-m", conversion.__name__, conversion.REQUEST_FILE]
    ended = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    problem = folder / conversion.PROBLEM_FILE
    assert ended.returncode == 0, problem.read_text() if problem.is_file() else ended.stderr[-2000:]
    result = json.loads((folder / conversion.RESULT_FILE).read_text())
    difference = result["conversion"]["parity"]["maximum_difference"]
    return (folder / conversion.INT8_FILE).read_bytes(), difference, x


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["", "_legacy"])
@pytest.mark.parametrize("name", _NETWORKS)
def test_a_network_of_pytorch_has_the_references_bits_on_the_core(
    name: str, exporter: str, tmp_path: Path, make_image: Images, tflm: Reference
) -> None:
    window, operator = _NETWORKS[name]
    int8, difference, x = _converted(name + exporter, window, tmp_path)
    assert difference < 1e-5
    generated = generate(int8)
    assert operator in generated.operators
    quantised = np.round(x / generated.input.scale) + generated.input.zero_point
    rows = np.clip(quantised, -128, 127).astype(np.int8)[:_COMPARED]
    theirs = tflm(int8, rows)
    assert len(set(theirs)) > _COMPARED // 2
    board = boot_unicorn(make_image(generated), image_board("cortex-m4"))
    assert [board.infer(row.tobytes()).output for row in rows] == theirs
    if operator == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return  # has TFLM's bits alone
    board = boot_unicorn(make_image(generate(int8, Numerics.LITERT)), image_board("cortex-m4"))
    ours = [board.infer(row.tobytes()).output for row in rows]
    assert ours == [row.tobytes() for row in litert_int8_outputs(int8, rows)]
