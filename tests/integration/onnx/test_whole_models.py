"""Models as PyTorch and scikit-learn export them, through the conversion's own process to int8."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.codegen.graph import Graph
from services.artifact_builder.codegen.reader import read_graph
from services.artifact_builder.determinism import TENSORFLOW_ENVIRONMENT
from services.artifact_builder.inputs import conversion
from services.artifact_builder.inputs.conversion import Request
from shared.inference.tflm import tflm_outputs
from shared.releases.model_formats import ModelFormat

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DATA = Path(__file__).parents[2] / "data" / "onnx"


def windows(*shape: int, classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    y = np.arange(200) % classes
    x = rng.normal(0, 0.6, (200, *shape)).astype(np.float32)
    x.reshape(200, -1)[np.arange(200), y] += 3
    return x, y


def converted(folder: Path, model: bytes, x: Any, y: Any, *, succeeds: bool = True) -> dict[str, bytes]:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    np.savez(folder / "train.npz", x=x, y=y)
    Request("model.onnx", ModelFormat.ONNX, "train.npz", seed=0, classes=int(y.max()) + 1).write(folder)
    command = [sys.executable, "-m", conversion.__name__, conversion.REQUEST_FILE]
    environment = {**os.environ, **TENSORFLOW_ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=250)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert (ended.returncode == 0) == succeeds, files.get(conversion.PROBLEM_FILE) or ended.stderr[-2000:]
    return files


def operators(graph: Graph) -> list[str]:
    return [operator.name for operator in graph.operators]


@pytest.fixture(scope="module")
def torch_network(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    model = (DATA / "torch_cnn.onnx").read_bytes()
    return converted(tmp_path_factory.mktemp("torch") / "cnn", model, *windows(64, 3, classes=3))


def test_a_network_of_pytorch_becomes_int8_without_a_transposition_and_the_same_twice(
    torch_network: dict[str, bytes], tmp_path: Path
) -> None:
    first = torch_network
    model = (DATA / "torch_cnn.onnx").read_bytes()
    assert converted(tmp_path / "again", model, *windows(64, 3, classes=3)) == first
    graph = read_graph(first[conversion.INT8_FILE])
    assert operators(graph) == [
        *("RESHAPE", "CONV_2D", "MAX_POOL_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "HARD_SWISH", "PAD", "CONV_2D"),
        *("RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED"),
    ]
    weights = [operator.inputs[1] for operator in graph.operators if "CONV" in operator.name]
    assert [len(tensor.scales) for tensor in weights if tensor is not None] == [8, 8, 16, 16], "a scale a channel"
    result = json.loads(first[conversion.RESULT_FILE])
    assert result["conversion"]["parity"]["equal_answers"] == 1
    assert result["conversion"]["parity"]["maximum_difference"] < 1e-5
    assert {"onnx", "onnxruntime"} <= set(result["recipe"])


def test_both_exporters_of_pytorch_give_the_same_network(torch_network: dict[str, bytes], tmp_path: Path) -> None:
    model = (DATA / "torch_cnn_legacy.onnx").read_bytes()
    old = converted(tmp_path / "old", model, *windows(64, 3, classes=3))
    graphs = [read_graph(files[conversion.INT8_FILE]) for files in (old, torch_network)]
    assert operators(graphs[0]) == operators(graphs[1])


def fitted(classifier: Any, x: Any, y: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about convergence and its own future
        from skl2onnx import to_onnx

        classifier.fit(x.reshape(len(x), -1), y)
        return bytes(to_onnx(classifier, x.reshape(len(x), -1)[:1]).SerializeToString())


@pytest.mark.parametrize("classes", [2, 3])
def test_a_scaler_and_a_logistic_regression_become_one_layer(classes: int, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = windows(12, classes=classes)
    model = fitted(make_pipeline(StandardScaler(), LogisticRegression()), x, y)
    int8 = converted(tmp_path / "a", model, x, y)[conversion.INT8_FILE]
    graph = read_graph(int8)
    assert operators(graph) == ["FULLY_CONNECTED", "LOGISTIC" if classes == 2 else "SOFTMAX"]
    source = graph.main.inputs[0]
    quantised = np.clip(np.round(x / source.scale) + source.zero_point, -128, 127).astype(np.int8)
    assert (tflm_outputs(int8, quantised).argmax(axis=1) == y).mean() > 0.95


def test_a_perceptron_of_scikit_learn_takes_windows_that_it_saw_flattened(tmp_path: Path) -> None:
    from sklearn.neural_network import MLPClassifier

    x, y = windows(4, 3, classes=3)
    files = converted(tmp_path / "a", fitted(MLPClassifier((16,), max_iter=60, random_state=0), x, y), x, y)
    graph = read_graph(files[conversion.INT8_FILE])
    assert graph.main.inputs[0].shape == (1, 4, 3)
    assert operators(graph) == ["RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]


def test_a_forest_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    x, y = windows(6, classes=2)
    files = converted(tmp_path / "a", fitted(RandomForestClassifier(3), x, y), x, y, succeeds=False)
    problem = files[conversion.PROBLEM_FILE].decode()
    assert problem.startswith("node 0 (TreeEnsembleClassifier), ai.onnx.ml.TreeEnsembleClassifier of opset")
    assert "train an MLPClassifier or LogisticRegression" in problem
