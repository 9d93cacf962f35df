"""Small ONNX models, and what onnxruntime and the converter make of them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import onnx
import onnxruntime
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from services.artifact_builder.inputs.onnx.function import arrangement_of, function_of
from services.artifact_builder.inputs.onnx.reading import graph_of, read_onnx

Weights = Mapping[str, Any]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    weights: Weights | None = None,
    *,
    opset: int = 17,
    output: str = "y",
) -> onnx.ModelProto:
    """Return a model from `x` to `output`."""
    graph = helper.make_graph(
        list(nodes),
        "tested",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def onnxruntime_answers(model: bytes, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def assert_converts(model: onnx.ModelProto, x: npt.NDArray[np.float32], *, channels_last: bool = False) -> list[str]:
    """Compare one input's answers, and return the types of the TensorFlow operators in the graph.

    `x` is in ONNX's order. With `channels_last` the converted model gets the channels last, as datasets have them.
    """
    data = model.SerializeToString()
    graph = graph_of(read_onnx(data))
    window = np.moveaxis(x, 1, -1) if channels_last else x
    function = tf.function(function_of(graph, arrangement_of(graph, window.shape[1:])))
    concrete = function.get_concrete_function(tf.TensorSpec(window.shape, tf.float32))
    expected = onnxruntime_answers(data, x)
    found = concrete(tf.constant(window)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return [operation.type for operation in concrete.graph.get_operations()]
