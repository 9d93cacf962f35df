"""A tensor seen in ONNX's order of axes while it lies in memory in another.

ONNX puts channels first, kernels for microcontrollers want them last. A `View` says which axes of the tensor in memory
each ONNX axis is made of, so that transposing, flattening, squeezing and most reshaping is bookkeeping: nothing moves
until an operator asks for an arrangement that the memory does not have.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array: TypeAlias = npt.NDArray[Any]
Order: TypeAlias = tuple[int, ...]
"""ONNX axes in the order in which they lie in memory."""


@dataclass(frozen=True, slots=True)
class View:
    """One activation.

    Attributes:
        tensor: As it lies in memory; its shape is fixed.
        axes: For each ONNX axis the axes of `tensor` whose product it is, the outermost first. Axes of `tensor` that
            no ONNX axis names have one element.
        nonnegative: No element is below zero.
        distribution: The elements of each row are probabilities that add up to one.
    """

    tensor: Any
    axes: tuple[Order, ...]
    nonnegative: bool = False
    distribution: bool = False

    @classmethod
    def of(cls, tensor: Any, order: Order, *, nonnegative: bool = False) -> "View":  # noqa: ANN401 - no types
        """Return a view of a tensor whose axis j is the ONNX axis ``order[j]``."""
        return cls(tensor, tuple((order.index(axis),) for axis in range(len(order))), nonnegative)

    @property
    def memory(self) -> tuple[int, ...]:
        """The shape of the tensor in memory."""
        return tuple(int(size) for size in self.tensor.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in ONNX's order."""
        memory = self.memory
        return tuple(math.prod(memory[axis] for axis in group) for group in self.axes)

    @property
    def order(self) -> Order:
        """The ONNX axes as they lie in memory; those of one element come last."""
        last = len(self.memory)
        return tuple(sorted(range(len(self.axes)), key=lambda axis: (min(self.axes[axis], default=last), axis)))

    def replaced(self, tensor: Any) -> "View":  # noqa: ANN401 - no types
        """Return another tensor of the same arrangement; what was known of the values is forgotten."""
        return View(tensor, self.axes)

    def arranged(self, order: Order, shape: Sequence[int] | None = None) -> Any:  # noqa: ANN401 - no types
        """Return the tensor with the ONNX axes in `order`, as `shape`: by default one axis for each.

        It is transposed only when elements really lie in another order.
        """
        memory = self.memory
        wanted = [axis for onnx_axis in order for axis in self.axes[onnx_axis] if memory[axis] != 1]
        tensor = self.tensor
        if wanted != sorted(wanted):
            moving = sorted(wanted)
            tensor = tf.reshape(tensor, [memory[axis] for axis in moving])
            tensor = tf.transpose(tensor, [moving.index(axis) for axis in wanted])
        target = tuple(self.shape[axis] for axis in order) if shape is None else tuple(shape)
        return tensor if tuple(tensor.shape) == target else tf.reshape(tensor, target)

    def plain(self) -> Any:  # noqa: ANN401 - no types
        """Return the tensor in ONNX's own order."""
        return self.arranged(tuple(range(len(self.axes))))

    def simple(self, order: Order | None = None) -> tuple[Any, Order]:
        """Return a tensor with one axis for each ONNX axis, and their order: the one in memory unless given."""
        order = self.order if order is None else order
        return self.arranged(order), order

    def transposed(self, permutation: Sequence[int]) -> "View":
        """Return the view with its ONNX axes permuted; nothing moves."""
        return dataclasses.replace(self, axes=tuple(self.axes[axis] for axis in permutation), distribution=False)

    def padded_rank(self, rank: int) -> "View":
        """Return the view with axes of one element in front, as broadcasting adds them."""
        return dataclasses.replace(self, axes=((),) * (rank - len(self.axes)) + self.axes)

    def reshaped(self, shape: Sequence[int]) -> "View":
        """Return the view in another shape; the tensor moves only where an axis in several parts is split again."""
        regrouped = self._regrouped(tuple(shape))
        if regrouped is not None:
            return dataclasses.replace(self, tensor=regrouped[0], axes=regrouped[1], distribution=False)
        tensor = self.arranged(tuple(range(len(self.axes))), shape)
        return View(tensor, tuple((axis,) for axis in range(len(shape))), self.nonnegative)

    def _regrouped(self, shape: tuple[int, ...]) -> tuple[Any, tuple[Order, ...]] | None:
        """Return tensor and axes of the same elements in `shape`, or None when that takes more than bookkeeping."""
        sizes: list[list[int]] = [[size] for size in self.memory]  # what each axis of memory is split into
        axes: list[list[tuple[int, int]]] = []  # (axis of memory, part of it) of each new axis
        old = [list(group) for group in self.axes]
        for old_axes, new_sizes in _chunks(self.shape, shape):
            group = [axis for onnx_axis in old_axes for axis in old[onnx_axis] if self.memory[axis] != 1]
            if len(new_sizes) == 1:
                axes.append([(axis, 0) for axis in group])
            elif len(group) == 1 and len([size for size in new_sizes if size != 1]) > 1:
                sizes[group[0]] = [size for size in new_sizes if size != 1]
                parts = iter(range(len(sizes[group[0]])))
                axes += [[] if size == 1 else [(group[0], next(parts))] for size in new_sizes]
            elif len([size for size in new_sizes if size != 1]) <= 1:
                axes += [[] if size == 1 else [(axis, 0) for axis in group] for size in new_sizes]
            else:
                return None
        flat = [(axis, part) for axis, parts in enumerate(sizes) for part in range(len(parts))]
        memory = tuple(sizes[axis][part] for axis, part in flat)
        tensor = self.tensor if memory == self.memory else tf.reshape(self.tensor, memory)
        return tensor, tuple(tuple(flat.index(place) for place in group) for group in axes)


def _chunks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split two shapes of equal size into the shortest runs of equal products: (old axes, new sizes)."""
    chunks: list[tuple[list[int], list[int]]] = []
    o = n = 0
    while o < len(old) or n < len(new):
        olds, news = [o] if o < len(old) else [], [new[n]] if n < len(new) else []
        o, n = o + len(olds), n + len(news)
        while (left := math.prod(old[axis] for axis in olds)) != (right := math.prod(news)):
            if left < right:
                olds.append(o)
                o += 1
            else:
                news.append(new[n])
                n += 1
        if news:
            chunks.append((olds, news))
        # An old axis of one element without a counterpart needs no new axis.
    return chunks


def constant_for(view: View, constant: Array) -> Array | None:
    """Return a constant of at most the view's rank as it broadcasts over the tensor in memory, or None if it cannot."""
    shape, memory = view.shape, view.memory
    values = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    split: list[int] = []
    places: list[int] = []
    for size, wanted, group in zip(values.shape, shape, view.axes, strict=True):
        if size not in (1, wanted):
            return None
        split += [memory[axis] if size == wanted else 1 for axis in group]
        places += list(group)
    arranged = values.reshape(split).transpose(np.argsort(places, kind="stable"))
    there = sorted(places)
    whole = arranged.reshape([arranged.shape[there.index(axis)] if axis in there else 1 for axis in range(len(memory))])
    stripped = whole.shape
    while stripped and stripped[0] == 1:
        stripped = stripped[1:]
    return np.ascontiguousarray(whole.reshape(stripped))


def combined(a: View | Array, b: View | Array, function: Callable[[Any, Any], Any]) -> View:
    """Return what an element-wise function of two operands makes, broadcast as ONNX (and NumPy) do."""
    rank = max(_rank(a), _rank(b))
    a, b = (operand.padded_rank(rank) if isinstance(operand, View) else operand for operand in (a, b))
    if isinstance(a, View) and isinstance(b, View):
        if a.axes == b.axes and a.memory == b.memory:
            return a.replaced(function(a.tensor, b.tensor))
        order = (a if math.prod(a.shape) >= math.prod(b.shape) else b).order
        return View.of(function(a.arranged(order), b.arranged(order)), order)
    view = a if isinstance(a, View) else b
    constant = b if isinstance(a, View) else a
    assert isinstance(view, View)
    assert isinstance(constant, np.ndarray)
    values = constant_for(view, constant)
    if values is None:  # the constant is the larger one
        tensor: Any = view.plain()
        order = tuple(range(rank))
        return View.of(function(tensor, constant) if view is a else function(constant, tensor), order)
    return view.replaced(function(view.tensor, values) if view is a else function(values, view.tensor))


def _rank(operand: View | Array) -> int:
    return len(operand.axes) if isinstance(operand, View) else operand.ndim
