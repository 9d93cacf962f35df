"""Convolution and pooling in one and two dimensions, channels last."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.view import Array, View
from services.artifact_builder.inputs.onnx.windows import Window, window_of

_Tensor = Any


def channels_last(view: View) -> _Tensor:
    """Return (batch, height, width, channels); a series has a height of one."""
    shape = view.shape
    order = (0, *range(2, len(shape)), 1)
    return view.arranged(order, (shape[0], *(1,) * (4 - len(shape)), *shape[2:], shape[1]))


def channels_first(tensor: _Tensor, rank: int, *, nonnegative: bool = False) -> View:
    """Return what ONNX sees of (batch, height, width, channels), or without the height when rank is 3."""
    spatial = ((1,), (2,)) if rank == 4 else ((2,),)
    return View(tensor, ((0,), (3,), *spatial), nonnegative)


def _padded(tensor: _Tensor, window: Window) -> tuple[_Tensor, str]:
    """Return a tensor padded with zeros where TensorFlow's own padding does not do, and the padding that is left."""
    if window.is_same and window.is_padded:
        return tensor, "SAME"
    return (tf.pad(tensor, window.paddings) if window.is_padded else tensor), "VALID"


def _conv(call: Call) -> View:
    view, weights = call.view(), call.constant(1)
    rank = len(view.axes)
    if weights.ndim != rank or rank < 3:
        call.node.refuse(f"its weights have {weights.ndim} axes over an input of {rank}", "export the model again")
    groups, channels, outputs = int(call.attribute("group", 1)), view.shape[1], weights.shape[0]
    if groups < 1 or channels != weights.shape[1] * groups or outputs % groups:
        call.node.refuse(
            f"it has {channels} channels in, {outputs} out, {groups} groups and weights of {list(weights.shape)}",
            "let input and output channels be multiples of the groups",
        )
    window = window_of(call, weights.shape[2:], view.shape[2:]).two_dimensional()
    tensor, padding = _padded(channels_last(view), window)
    filters = weights.reshape((*weights.shape[:2], *window.kernel))  # (outputs, channels of a group, height, width)
    strides, dilations = [1, *window.strides, 1], [1, *window.dilations, 1]
    if groups == channels and groups > 1:
        # ONNX numbers outputs by channel and then by multiplier, as TensorFlow does.
        depthwise = filters.reshape((channels, outputs // channels, *window.kernel)).transpose(2, 3, 0, 1)
        made = tf.raw_ops.DepthwiseConv2dNative(
            input=tensor, filter=np.ascontiguousarray(depthwise), strides=strides, padding=padding, dilations=dilations
        )
    else:
        made = tf.nn.conv2d(
            tensor, np.ascontiguousarray(filters.transpose(2, 3, 1, 0)), strides, padding, dilations=dilations
        )
    if call.has(2):
        made = tf.nn.bias_add(made, call.constant(2))
    return channels_first(made, rank)


def _pool_window(call: Call, view: View) -> Window:
    window = window_of(call, call.attribute("kernel_shape"), view.shape[2:]).two_dimensional()
    if set(window.dilations) != {1}:
        call.node.refuse("it is dilated", "use a pooling without dilations")
    return window


def _max_pool(call: Call) -> View:
    view = call.view()
    if len([name for name in call.node.outputs if name]) > 1:
        call.node.refuse("it gives the places of the maxima too", "use the maxima alone")
    window = _pool_window(call, view)
    tensor, padding = channels_last(view), "VALID"
    if window.is_same and window.is_padded:
        padding = "SAME"
    elif window.is_padded and view.nonnegative:
        tensor = tf.pad(tensor, window.paddings)  # zero is no more than any value
    elif window.is_padded:
        # Mirrored, a border repeats what its window holds already. Half a kernel is as far as PyTorch pads, too.
        if any(2 * pad > size for pad, size in zip((*window.before, *window.after), window.kernel * 2, strict=True)):
            call.node.refuse("it pads more than half its kernel", "pad less, or put a Relu in front")
        tensor = tf.pad(tensor, window.paddings, "SYMMETRIC")
    made = tf.nn.max_pool2d(tensor, window.kernel, window.strides, padding)
    return channels_first(made, len(view.axes), nonnegative=view.nonnegative)


def _average_pool(call: Call) -> View:
    view = call.view()
    window = _pool_window(call, view)
    counts_padding = bool(call.attribute("count_include_pad", 0))
    tensor, padding = channels_last(view), "VALID"
    share: Array | None = None
    if window.is_padded and window.is_same and not counts_padding:
        padding = "SAME"  # which leaves the padding out of the mean, too
    elif window.is_padded:
        tensor = tf.pad(tensor, window.paddings)
        share = None if counts_padding else _share_inside(window)
    made = tf.nn.avg_pool2d(tensor, window.kernel, window.strides, padding)
    if share is not None:
        made = tf.math.multiply(made, share)
    return channels_first(made, len(view.axes), nonnegative=view.nonnegative)


def _share_inside(window: Window) -> Array:
    """Return by what the mean over each padded window is multiplied to leave the padding out: (1, height, width, 1)."""
    factors = []
    for axis, (size, kernel, stride) in enumerate(zip(window.sizes, window.kernel, window.strides, strict=True)):
        inside = np.pad(np.ones(size), (window.before[axis], window.after[axis]))
        counts = np.convolve(inside, np.ones(kernel), "valid")[::stride]
        factors.append(kernel / counts)
    return np.outer(*factors).astype(np.float32)[np.newaxis, :, :, np.newaxis]


def _conv_transpose(call: Call) -> View:
    view, weights = call.view(), call.constant(1)
    rank = len(view.axes)
    plain = int(call.attribute("group", 1)) == 1 and not any(call.attribute("output_padding", [0]))
    if not plain or call.attribute("output_shape") or call.attribute("auto_pad", "NOTSET") != "NOTSET":
        call.node.refuse("it is grouped, or its output is sized by hand", "use a plain ConvTranspose with pads")
    window = window_of(call, weights.shape[2:], view.shape[2:])
    if set(window.dilations) != {1}:
        call.node.refuse("it is dilated", "use a ConvTranspose without dilations")
    full = [
        (size - 1) * stride + kernel
        for size, stride, kernel in zip(window.sizes, window.strides, window.kernel, strict=True)
    ]
    ends = [size - after for size, after in zip(full, window.after, strict=True)]
    lead = (1,) * (4 - rank)
    filters = weights.reshape((*weights.shape[:2], *lead, *window.kernel)).transpose(2, 3, 1, 0)
    made = tf.nn.conv2d_transpose(
        channels_last(view),
        np.ascontiguousarray(filters),
        (1, *lead, *full, weights.shape[1]),
        [1, *lead, *window.strides, 1],
        "VALID",
    )
    if window.is_padded:
        begin, end = [0, *(0 for _ in lead), *window.before, 0], [1, *lead, *ends, weights.shape[1]]
        made = tf.strided_slice(made, begin, end)
    if call.has(2):
        made = tf.nn.bias_add(made, call.constant(2))
    return channels_first(made, rank)


OPERATORS: Final[Mapping[str, Callable[[Call], View]]] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
}
