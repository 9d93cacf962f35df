"""Means, sums and extremes over axes, wherever these lie in memory: nothing is transposed."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.view import View


def reduced(view: View, axes: list[int], function: Callable[..., Any], *, keep: bool) -> View:
    """Return the view reduced over ONNX axes; with `keep` they stay, with one element."""
    named = {axis for group in view.axes for axis in group}
    gone = [axis for onnx_axis in axes for axis in view.axes[onnx_axis]]
    if gone:  # an axis that no ONNX axis names has one element: reduced along, it keeps pooling two-dimensional
        gone += [axis for axis in range(1, len(view.memory)) if axis not in named]
    tensor = function(view.tensor, axis=sorted(gone), keepdims=keep) if gone else view.tensor
    if keep:
        return View(tensor, tuple(() if axis in axes else group for axis, group in enumerate(view.axes)))
    left = [axis for axis in range(len(view.memory)) if axis not in gone]
    groups = [group for axis, group in enumerate(view.axes) if axis not in axes]
    return View(tensor, tuple(tuple(left.index(axis) for axis in group) for group in groups))


def _reduction(function: Callable[..., Any]) -> Callable[[Call], View]:
    def operator(call: Call) -> View:
        view = call.view()
        rank = len(view.axes)
        axes = call.integers(1, "axes")
        if axes is None and call.attribute("noop_with_empty_axes", 0):
            return view
        wanted = [call.axis(axis, rank) for axis in (range(rank) if axes is None else axes)]
        if 0 in wanted and view.shape[0] != 1:
            call.node.refuse("it reduces over the batch", "reduce over one window's axes alone")
        return reduced(view, wanted, function, keep=bool(call.attribute("keepdims", 1)))

    return operator


def _global(function: Callable[..., Any]) -> Callable[[Call], View]:
    def operator(call: Call) -> View:
        view = call.view()
        return reduced(view, list(range(2, len(view.axes))), function, keep=True)

    return operator


OPERATORS: Final[Mapping[str, Callable[[Call], View]]] = {
    "GlobalAveragePool": _global(tf.math.reduce_mean),
    "GlobalMaxPool": _global(tf.math.reduce_max),
    "ReduceMax": _reduction(tf.math.reduce_max),
    "ReduceMean": _reduction(tf.math.reduce_mean),
    "ReduceMin": _reduction(tf.math.reduce_min),
    "ReduceSum": _reduction(tf.math.reduce_sum),
}
