"""Products with matrices, and what scikit-learn's linear models are made of."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.view import Array, View, combined

_DOUBLE_SIDED: Final = 1e-6


def product(view: View, weights: Array, bias: Array | None = None) -> View:
    """Return ``view @ weights + bias`` over the last ONNX axis; weights are (features, outputs).

    Where that axis was flattened from several that lie in another order, the weights' rows move instead of the data.
    """
    memory = view.memory
    last = [axis for axis in view.axes[-1] if memory[axis] != 1]
    others = [axis for group in view.axes[:-1] for axis in group if memory[axis] != 1]
    if last and others and max(others) > min(last):  # the rows' axes lie inside of the features'
        tensor, order = view.simple((*(axis for axis in view.order if axis != len(view.axes) - 1), len(view.axes) - 1))
        return product(View.of(tensor, order), weights, bias)
    rows, features = sorted(others), sorted(last)
    places = np.arange(math.prod(memory[axis] for axis in features)).reshape([memory[axis] for axis in features])
    moved = np.empty_like(weights)
    moved[places.transpose([features.index(axis) for axis in last]).ravel()] = weights
    tensor = tf.linalg.matmul(tf.reshape(view.tensor, (math.prod(memory[axis] for axis in rows), len(weights))), moved)
    if bias is not None:
        tensor = tf.math.add(tensor, bias)
    if len(rows) == 0:
        shape = [1] * (len(view.axes) - 1)
        tensor = tf.reshape(tensor, (*shape, weights.shape[1])) if len(view.axes) != 2 else tensor
        return View(tensor, tuple((axis,) for axis in range(len(view.axes))))
    if len(rows) != 1:
        tensor = tf.reshape(tensor, (*(memory[axis] for axis in rows), weights.shape[1]))
    groups = tuple(tuple(rows.index(axis) for axis in group if memory[axis] != 1) for group in view.axes[:-1])
    return View(tensor, (*groups, (len(rows),)))


def _gemm(call: Call) -> View:
    if call.attribute("transA", 0):
        call.node.refuse("it transposes its data", "export a plain linear layer")
    weights = call.constant(1)
    weights = (weights.T if call.attribute("transB", 0) else weights) * np.float32(call.attribute("alpha", 1.0))
    bias = None
    if call.has(2):
        bias = call.constant(2) * np.float32(call.attribute("beta", 1.0))
        bias = np.broadcast_to(bias.reshape(-1) if bias.size > 1 else bias.reshape(1), weights.shape[1:])
    return product(call.view(), np.ascontiguousarray(weights), bias)


def _matmul(call: Call) -> View:
    a, b = call.operand(0), call.operand(1)
    if isinstance(a, View) and not isinstance(b, View) and b.ndim == 2:
        return product(a, call.constant(1))
    tensors = [operand.plain() if isinstance(operand, View) else operand.astype(np.float32) for operand in (a, b)]
    result = tf.linalg.matmul(*tensors)
    return View.of(result, tuple(range(len(result.shape))))


def _softmax(call: Call) -> View:
    return _over_one_axis(call, tf.nn.softmax, distribution=True)


def _log_softmax(call: Call) -> View:
    return _over_one_axis(call, tf.nn.log_softmax)


def _over_one_axis(call: Call, function: Callable[[Any], Any], *, distribution: bool = False) -> View:
    view = call.view()
    rank = len(view.axes)
    axis = call.axis(call.attribute("axis", -1 if call.node.opset >= 13 else 1), rank)
    if call.node.opset < 13 and math.prod(view.shape[axis + 1 :]) != 1:
        call.node.refuse("before opset 13 it spans all axes from its own on", "export with opset 13 or later")
    order = (*(other for other in view.order if other != axis), axis)
    result = View.of(function(view.arranged(order)), order, nonnegative=distribution)
    return dataclasses.replace(result, distribution=distribution and axis == rank - 1)


def _linear_classifier(call: Call) -> list[View | None]:
    """Return no label, and the scores."""
    return [None, _linear_scores(call)]


def _linear_scores(call: Call) -> View:
    coefficients = np.array(call.attribute("coefficients"), np.float32)
    features = call.view().shape[-1]
    weights = coefficients.reshape(-1, features).T
    intercepts = np.array(call.attribute("intercepts", [0.0] * weights.shape[1]), np.float32)
    classes = len(call.attribute("classlabels_ints") or call.attribute("classlabels_strings") or ())
    if classes != weights.shape[1]:
        call.node.refuse(f"it has {weights.shape[1]} rows for {classes} classes", "let it score every class")
    scores = product(call.view(), np.ascontiguousarray(weights), intercepts)
    transform = call.attribute("post_transform", "NONE")
    if transform == "NONE":
        return scores
    if transform == "SOFTMAX":
        return View(tf.nn.softmax(scores.tensor), scores.axes, nonnegative=True, distribution=True)
    if transform != "LOGISTIC":
        call.node.refuse(f"its post_transform is {transform}", "use NONE, SOFTMAX or LOGISTIC")
    # Of two opposite scores, the probabilities of the logistic function add up to one.
    opposite = classes == 2 and np.allclose(weights[:, 0], -weights[:, 1], atol=_DOUBLE_SIDED)
    opposite = opposite and bool(np.isclose(intercepts[0], -intercepts[1], atol=_DOUBLE_SIDED))
    return View(tf.math.sigmoid(scores.tensor), scores.axes, nonnegative=True, distribution=opposite)


def _normalizer(call: Call) -> View:
    view = call.view()
    if call.attribute("norm", "MAX") != "L1" or not view.distribution:
        call.node.refuse(
            "it divides by a sum, which int8 does not have",
            "use a multinomial model, whose softmax gives probabilities; or normalise in the preprocessing",
        )
    return view  # what adds up to one is normal already


def _scaler(call: Call) -> View:
    offset, scale = (np.array(call.attribute(name), np.float32) for name in ("offset", "scale"))
    scaled = combined(call.view(), scale, tf.math.multiply)
    return combined(scaled, -offset * scale, tf.math.add)


OPERATORS: Final[Mapping[str, Callable[[Call], View | list[View | None]]]] = {
    "Gemm": _gemm,
    "LogSoftmax": _log_softmax,
    "MatMul": _matmul,
    "Softmax": _softmax,
    "ai.onnx.ml.LinearClassifier": _linear_classifier,
    "ai.onnx.ml.Normalizer": _normalizer,
    "ai.onnx.ml.Scaler": _scaler,
}
