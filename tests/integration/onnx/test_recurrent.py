"""ONNX's recurrent layers as PyTorch writes them, compared with onnxruntime."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from onnx import helper

from services.artifact_builder.inputs.onnx.loading import load_onnx
from services.artifact_builder.inputs.problems import ModelError
from tests.integration.onnx.conftest import Weights, assert_converts, model_of

_STEPS, _DEPTH, _UNITS = 9, 4, 5


def _weights(gates: int, directions: int, depth: int = _DEPTH) -> Weights:
    rng = np.random.default_rng(gates + directions)
    shapes = {"w": (gates * _UNITS, depth), "r": (gates * _UNITS, _UNITS), "b": (2 * gates * _UNITS,)}
    return {name: rng.normal(0, 0.4, (directions, *shape)).astype(np.float32) for name, shape in shapes.items()}


def _window() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(2).normal(0, 1, (1, _STEPS, _DEPTH)).astype(np.float32)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("last", [True, False])
def test_recurrent_layers_match_onnxruntime(operator: str, gates: int, direction: str, last: bool) -> None:
    directions = 1 + (direction == "bidirectional")
    options: dict[str, Any] = {"linear_before_reset": 1} if operator == "GRU" else {}
    outputs = ["", "state"] if last else ["all"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            operator, ["steps", "w", "r", "b"], outputs, direction=direction, hidden_size=_UNITS, **options
        ),
        helper.make_node("Transpose", [outputs[-1]], ["t"], perm=[1, 0, 2] if last else [2, 0, 1, 3]),
        helper.make_node("Flatten", ["t"], ["y"]),
    ]
    assert_converts(model_of(nodes, [1, _STEPS, _DEPTH], _weights(gates, directions)), _window())


def test_another_activation_is_refused_by_name() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            "RNN", ["steps", "w", "r", "b"], ["", "s"], name="memory", hidden_size=_UNITS, activations=["Relu"]
        ),
        helper.make_node("Flatten", ["s"], ["y"]),
    ]
    model = load_onnx(model_of(nodes, [1, _STEPS, _DEPTH], _weights(1, 1)).SerializeToString(), (_STEPS, _DEPTH))
    with pytest.raises(ModelError, match=r"memory.*RNN.*its activations are Relu\. Next: use Tanh"):
        tf.function(model.function, autograph=False).get_concrete_function(tf.TensorSpec([1, _STEPS, _DEPTH]))


def test_a_state_that_is_not_zero_is_refused_by_name() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r", "b", "", "h"], ["", "s"], name="memory", hidden_size=_UNITS),
        helper.make_node("Flatten", ["s"], ["y"]),
    ]
    weights = {**_weights(4, 1), "h": np.ones((1, 1, _UNITS), np.float32)}
    model = load_onnx(model_of(nodes, [1, _STEPS, _DEPTH], weights).SerializeToString(), (_STEPS, _DEPTH))
    with pytest.raises(ModelError, match=r"memory.*LSTM.*initial state is not zero"):
        tf.function(model.function, autograph=False).get_concrete_function(tf.TensorSpec([1, _STEPS, _DEPTH]))
