"""`edgeloop bench mlperf-tiny` as a user runs it: one JSON object, every output vector, errors that name the file."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.codegen.reader import read_graph
from services.artifact_builder.measuring import probing_inputs
from shared.inference.tflm import tflm_outputs
from tests.support import ROOT

MODEL = ROOT / "tests" / "data" / "models" / "cnn_1d.tflite"
REFERENCE = ROOT.parent / "shared" / "data" / "mlperf_tiny"
INPUTS = 9


def _bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeloop", "bench", "mlperf-tiny", "--json", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return np.asarray(tflm_outputs(MODEL.read_bytes(), _tensors()))


def _classes() -> int:
    return read_graph(MODEL.read_bytes()).output.size


def _tensors() -> np.ndarray:
    size = int(np.prod(read_graph(MODEL.read_bytes()).input.shape))
    return probing_inputs(size, INPUTS, seed=4)


@pytest.fixture
def recordings(tmp_path: Path, expected: np.ndarray) -> Path:
    """A folder of inputs whose labels are the reference's own answers, but for the first."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    lines = []
    for row, (tensor, output) in enumerate(zip(_tensors(), expected, strict=True)):
        (folder / f"in_{row}.bin").write_bytes(tensor.tobytes())
        label = int(np.argmax(output)) if row else (int(np.argmax(output)) + 1) % output.size
        lines.append(f"in_{row}.bin,{output.size},{label}")
    (tmp_path / "labels.csv").write_text("\n".join([*lines, f"elsewhere.bin,{_classes()},0"]) + "\n", "utf-8")
    return folder


def _usual(recordings: Path) -> list[str | Path]:
    beside = recordings.parent
    return ["--model", MODEL, "--board", "cortex-m4", "--inputs", recordings, "--labels", beside / "labels.csv",
            "--data", beside / "data"]  # fmt: skip


def test_a_model_is_benchmarked_on_every_input_and_says_what_is_modelled(
    recordings: Path, expected: np.ndarray
) -> None:
    outputs = recordings.parent / "out" / "outputs.jsonl"
    result = _result(_bench(*_usual(recordings), "--outputs", outputs, "--boards", "3"))
    assert result["inputs"] == INPUTS
    assert result["mismatches"] == 0
    assert result["accuracy"] == pytest.approx((INPUTS - 1) / INPUTS, abs=1e-6)
    low, high = result["accuracy_interval"]
    assert low < result["accuracy"] < high
    assert isinstance(result["instructions"], int)
    for figure in ("latency_ms", "energy_uj"):
        assert result[figure] > 0
        assert result[f"{figure}_class"] == "modelled"
        assert result[f"{figure}_basis"]
    entries = [json.loads(line) for line in outputs.read_text("utf-8").splitlines()]
    assert [entry["input"] for entry in entries] == [f"in_{row}.bin" for row in range(INPUTS)]
    assert [entry["output"] for entry in entries] == expected.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".json"])
def test_output_vectors_come_in_the_format_that_the_name_asks_for(
    recordings: Path, expected: np.ndarray, suffix: str
) -> None:
    outputs = recordings.parent / f"outputs{suffix}"
    _result(_bench(*_usual(recordings), "--outputs", outputs))
    assert _READERS[suffix](outputs) == expected.tolist()


_READERS: dict[str, Any] = {
    ".csv": lambda file: [
        [int(cell) for cell in row[3:]] for row in list(csv.reader(file.read_text("utf-8").splitlines()))[1:]
    ],
    ".npy": lambda file: np.load(file, allow_pickle=False).tolist(),
    ".json": lambda file: [entry["output"] for entry in json.loads(file.read_text("utf-8"))],
}


def test_labels_are_read_from_names_where_there_is_no_list(recordings: Path, expected: np.ndarray) -> None:
    for row, output in enumerate(expected):
        (recordings / f"in_{row}.bin").rename(recordings / f"in_{row}_{int(np.argmax(output))}.bin")
    result = _result(_bench("--model", MODEL, "--board", "cortex-m4", "--inputs", recordings,
                            "--data", recordings.parent / "data"))  # fmt: skip
    assert result["accuracy"] == 1.0


def test_inputs_and_labels_may_be_arrays(recordings: Path, expected: np.ndarray) -> None:
    np.save(recordings.parent / "x.npy", _tensors())
    np.save(recordings.parent / "y.npy", np.argmax(expected.reshape(INPUTS, -1), axis=1))
    result = _result(_bench("--model", MODEL, "--board", "cortex-m4", "--inputs", recordings.parent / "x.npy",
                            "--labels", recordings.parent / "y.npy", "--data", recordings.parent / "data"))  # fmt: skip
    assert (result["inputs"], result["mismatches"], result["accuracy"]) == (INPUTS, 0, 1.0)


def _no_files(recordings: Path) -> None:
    for file in recordings.iterdir():
        file.unlink()


def _short_file(recordings: Path) -> None:
    (recordings / "in_3.bin").write_bytes(b"\0")


def _unlisted(recordings: Path) -> None:
    (recordings / "in_99.bin").write_bytes((recordings / "in_0.bin").read_bytes())


def _garbled(recordings: Path) -> None:
    with (recordings.parent / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("in_0.bin;2;0\n")


def _twice(recordings: Path) -> None:
    with (recordings.parent / "labels.csv").open("a", encoding="utf-8") as file:
        file.write(f"in_1.bin,{_classes()},99\n")


def _no_such_class(recordings: Path) -> None:
    labels = recordings.parent / "labels.csv"
    rest = [line for line in labels.read_text("utf-8").splitlines() if not line.startswith("in_2.bin")]
    labels.write_text("\n".join([*rest, f"in_2.bin,{_classes()},99"]), "utf-8")


def _of_another_model(recordings: Path) -> None:
    with (recordings.parent / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("in_1.bin,1000,3\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_files, "no .bin files"),
        (_short_file, "in_3.bin: 1 bytes, and the model's input has"),
        (_unlisted, "in_99.bin"),
        (_garbled, "line 11 is 'in_0.bin;2;0'"),
        (_twice, "line 11 says 99 of in_1.bin"),
        (_no_such_class, "in_2.bin: --labels"),
        (_of_another_model, "line 11 is of 1000 classes; the model tells"),
    ],
)
def test_bad_inputs_and_labels_are_named_before_anything_runs(recordings: Path, spoil: Any, said: str) -> None:
    spoil(recordings)
    done = _bench(*_usual(recordings))
    assert done.returncode == 2
    assert said in json.loads(done.stdout)["error"]
    assert not (recordings.parent / "data").exists()


def test_a_file_that_cannot_be_written_is_named_before_anything_runs(recordings: Path) -> None:
    done = _bench(*_usual(recordings), "--outputs", recordings / "in_0.bin" / "outputs.jsonl")
    assert done.returncode == 2
    assert "--outputs" in json.loads(done.stdout)["error"]
    assert not (recordings.parent / "data").exists()


def test_energy_is_measured_of_real_boards_alone(recordings: Path) -> None:
    done = _bench(*_usual(recordings), "--energy", "ppk2:port")
    assert done.returncode == 2
    assert "--energy: nothing can be measured of an emulated board" in json.loads(done.stdout)["error"]


def test_a_board_that_nothing_emulates_is_refused(recordings: Path) -> None:
    done = _bench(*_usual(recordings), "--board", "espressif-esp-eye")
    assert done.returncode == 2
    assert "nothing emulates it" in json.loads(done.stdout)["error"]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs MLPerf Tiny's reference inputs in ../shared/data/mlperf_tiny")
def test_keyword_spotting_has_no_mismatch_on_any_recording(tmp_path: Path) -> None:
    result = _result(
        _bench("--model", REFERENCE / "models" / "kws_ref_model.tflite", "--board", "cortex-m4", "--inputs",
               REFERENCE / "kws01", "--labels", REFERENCE / "kws01" / "y_labels.csv", "--data", tmp_path)
    )  # fmt: skip
    assert (result["inputs"], result["mismatches"]) == (200, 0)
    assert result["accuracy"] == 0.875
