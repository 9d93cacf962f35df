"""What moves, joins and cuts tensors without computing: mostly bookkeeping of a view."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.view import Array, Order, View

_FAR: Final = 2**31


def _reshape(call: Call) -> View:
    view = call.view()
    wanted = [int(size) for size in call.constant(1).ravel()]
    if not call.attribute("allowzero", 0):
        wanted = [
            view.shape[axis] if size == 0 and axis < len(view.shape) else size for axis, size in enumerate(wanted)
        ]
    size = math.prod(view.shape)
    if wanted.count(-1) == 1:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = size // known if known else 0
    if math.prod(wanted) != size or min(wanted, default=1) < 1:
        call.node.refuse(
            f"it makes {wanted} of {list(view.shape)}", "export the model for a batch of 1, with fixed shapes"
        )
    return view.reshaped(wanted)


def _flatten(call: Call) -> View:
    view = call.view()
    rank = len(view.axes)
    axis = call.attribute("axis", 1)
    axis = rank if axis == rank else call.axis(axis, rank)
    return view.reshaped((math.prod(view.shape[:axis]), math.prod(view.shape[axis:])))


def _squeeze(call: Call) -> View:
    view = call.view()
    rank = len(view.axes)
    axes = call.integers(1, "axes")
    gone = (
        {call.axis(axis, rank) for axis in axes}
        if axes is not None
        else {axis for axis, size in enumerate(view.shape) if size == 1}
    )
    if any(view.shape[axis] != 1 for axis in gone):
        call.node.refuse(f"it squeezes axes {sorted(gone)} of {list(view.shape)}", "squeeze axes of one element")
    return _with_axes(view, tuple(group for axis, group in enumerate(view.axes) if axis not in gone))


def _unsqueeze(call: Call) -> View:
    view = call.view()
    axes = call.integers(1, "axes") or []
    rank = len(view.axes) + len(axes)
    new = {call.axis(axis, rank) for axis in axes}
    groups = iter(view.axes)
    return _with_axes(view, tuple(() if axis in new else next(groups) for axis in range(rank)))


def _with_axes(view: View, axes: tuple[Order, ...]) -> View:
    return View(view.tensor, axes, view.nonnegative)


def _transpose(call: Call) -> View:
    view = call.view()
    rank = len(view.axes)
    permutation = call.attribute("perm", list(range(rank))[::-1])
    if sorted(permutation) != list(range(rank)):
        call.node.refuse(f"its perm {permutation} does not permute {rank} axes", "export the model again")
    return view.transposed(permutation)


def _concat(call: Call) -> View:
    operands = [call.operand(position) for position in range(len(call.operands))]
    views = [operand for operand in operands if isinstance(operand, View)]
    rank = len(views[0].axes)
    axis = call.axis(call.attribute("axis", 1), rank)
    order = max(views, key=lambda view: math.prod(view.shape)).order
    tensors = [
        operand.arranged(order) if isinstance(operand, View) else operand.astype(np.float32).transpose(order)
        for operand in operands
    ]
    joined = View.of(tf.concat(tensors, order.index(axis)), order)
    nonnegative = all(isinstance(operand, View) and operand.nonnegative for operand in operands)
    return View(joined.tensor, joined.axes, nonnegative)


def _cut(view: View, bounds: Mapping[int, tuple[int, int, int]]) -> View:
    """Return a view of begin, end (exclusive) and step of some ONNX axes; each is one axis in memory."""
    tensor, order = view.simple()
    begin, end, step = [0] * len(order), [int(size) for size in tensor.shape], [1] * len(order)
    for axis, (first, last, by) in bounds.items():
        begin[order.index(axis)], end[order.index(axis)], step[order.index(axis)] = first, last, by
    return View.of(tf.strided_slice(tensor, begin, end, step), order, nonnegative=view.nonnegative)


def _slice(call: Call) -> View:
    view = call.view()
    rank = len(view.axes)
    starts, ends = call.integers(1, "starts") or [], call.integers(2, "ends") or []
    axes = call.integers(3, "axes") or list(range(len(starts)))
    steps = call.integers(4, "steps") or [1] * len(starts)
    bounds = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            call.node.refuse(f"its step is {step}; allowed are positive ones", "reverse the data in the preprocessing")
        place = call.axis(axis, rank)
        first, last, _ = slice(start, min(end, _FAR), step).indices(view.shape[place])
        if last <= first:
            call.node.refuse("it leaves nothing", "correct its bounds")
        bounds[place] = (first, last, step)
    return _cut(view, bounds)


def _split(call: Call) -> list[View]:
    view = call.view()
    axis = call.axis(call.attribute("axis", 0), len(view.axes))
    size, parts = view.shape[axis], len(call.node.outputs)
    even = [min(-(-size // parts), size - index * -(-size // parts)) for index in range(parts)]
    sizes = call.integers(1, "split") or even
    if sum(sizes) != size or len(sizes) != parts or min(sizes) < 1:
        call.node.refuse(f"it splits {size} into {sizes}", "let the parts add up")
    ends = np.cumsum(sizes).tolist()
    return [_cut(view, {axis: (end - part, end, 1)}) for end, part in zip(ends, sizes, strict=True)]


def _gather(call: Call) -> View:
    view, indices = call.view(), call.constant(1)
    axis = call.axis(call.attribute("axis", 0), len(view.axes))
    size = view.shape[axis]
    places = [call.axis(int(index), size) for index in indices.ravel()]
    if indices.ndim > 1 or not places:
        call.node.refuse(f"its indices have the shape {list(indices.shape)}", "choose by one number, or a list of them")
    if places == list(range(places[0], places[0] + len(places))):
        found = _cut(view, {axis: (places[0], places[0] + len(places), 1)})
    else:
        tensor, order = view.simple()
        found = View.of(tf.gather(tensor, places, axis=order.index(axis)), order, nonnegative=view.nonnegative)
    if indices.ndim == 1:
        return found
    return _with_axes(found, tuple(group for other, group in enumerate(found.axes) if other != axis))


def _pad(call: Call) -> View:
    view = call.view()
    rank = len(view.axes)
    pads = call.integers(1, "pads") or []
    axes = [call.axis(axis, rank) for axis in call.integers(3, "axes", range(rank)) or []]
    value = float(call.constant(2, np.array(call.attribute("value", 0.0))))
    if len(pads) != 2 * len(axes) or min([*pads, 0]) < 0:
        call.node.refuse(f"its pads are {pads}", "pad by nothing or more at both ends of each axis")
    modes = {"constant": "CONSTANT", "reflect": "REFLECT"}
    mode = call.attribute("mode", "constant")
    if mode not in modes:
        call.node.refuse(f"its mode is {mode}; allowed are {', '.join(modes)}", "pad with a constant")
    tensor, order = view.simple()
    by_axis = {axis: [pads[place], pads[place + len(axes)]] for place, axis in enumerate(axes)}
    paddings = [by_axis.get(axis, [0, 0]) for axis in order]
    made: Any = tf.pad(tensor, paddings, modes[mode], constant_values=value)
    return View.of(made, order, nonnegative=view.nonnegative and value >= 0)


def _expand(call: Call) -> View:
    view = call.view()
    shape = np.broadcast_shapes(view.shape, tuple(int(size) for size in call.constant(1)))
    if shape == view.shape:
        return view
    return View.of(tf.broadcast_to(view.plain(), shape), tuple(range(len(shape))), nonnegative=view.nonnegative)


def _shape(call: Call) -> Array:
    shape = call.view().shape
    return np.array(shape[slice(call.attribute("start", 0), call.attribute("end", None))], np.int64)


def _size(call: Call) -> Array:
    return np.array(math.prod(call.view().shape), np.int64)


OPERATORS: Final[Mapping[str, Callable[[Call], View | Array | list[View]]]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
