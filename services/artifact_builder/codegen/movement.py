"""Lowering of operators that move values without changing them: a view where bytes stay in order, else one kernel.

A `Region` says which bytes of a tensor an operator reads or writes, and in which order. TensorFlow Lite for
Microcontrollers copies bytes too, whatever their scales, so scales that differ are refused: the result would be wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Join, Layer, Lowered, View
from services.artifact_builder.codegen.planner import ALIGNMENT_BYTES

_LOOPS: Final = 4
"""EL_REARRANGE_LOOPS of the kernel."""


@dataclass(frozen=True, slots=True)
class Region:
    """Elements of a tensor: the first one's place, and extent and stride along each axis, in bytes."""

    first: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def whole(shape: Sequence[int], element_bytes: int) -> "Region":
        """Return all elements of a tensor in order."""
        strides = [element_bytes * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return Region(0, tuple(shape), tuple(strides))

    def cut(self, axis: int, begin: int, extent: int, step: int = 1) -> "Region":
        """Return every `step`-th element from `begin` on along one axis."""
        return Region(
            self.first + begin * self.strides[axis],
            (*self.extents[:axis], extent, *self.extents[axis + 1 :]),
            (*self.strides[:axis], step * self.strides[axis], *self.strides[axis + 1 :]),
        )

    def permuted(self, order: Sequence[int]) -> "Region":
        """Return the same elements with the axes in another order."""
        return replace(
            self,
            extents=tuple(self.extents[axis] for axis in order),
            strides=tuple(self.strides[axis] for axis in order),
        )

    def in_order(self, element_bytes: int) -> bool:
        """Whether the elements follow each other without a gap."""
        expected = element_bytes
        for extent, stride in zip(reversed(self.extents), reversed(self.strides), strict=True):
            if extent != 1 and stride != expected:
                return False
            expected *= extent
        return True


def move(operator: Operator, source: Tensor, read: Region, output: Tensor, written: Region) -> Layer:
    """Return the call that copies a region of one tensor into a region of another, element by element."""
    element_bytes = source.type.size_bytes
    loops: list[tuple[int, int, int]] = []
    for loop in zip(read.extents, read.strides, written.strides, strict=True):
        extent, read_stride, written_stride = loop
        if extent == 1:
            continue
        if loops and loops[-1][1:] == (extent * read_stride, extent * written_stride):
            loops[-1] = (loops[-1][0] * extent, read_stride, written_stride)
        else:
            loops.append(loop)
    run_bytes = element_bytes
    if loops and loops[-1][1:] == (element_bytes, element_bytes):
        run_bytes *= loops.pop()[0]
    if len(loops) > _LOOPS:
        raise operator.unsupported(
            f"it moves along {len(loops)} axes; up to {_LOOPS} are supported", "Reshape before it to fewer dimensions"
        )
    loops = [(1, 0, 0)] * (_LOOPS - len(loops)) + loops
    return Layer(
        kernel="el_rearrange",
        inputs=(source,),
        output=output,
        fields={
            "run_bytes": run_bytes,
            "count": [loop[0] for loop in loops],
            "read_first": read.first,
            "read_stride": [loop[1] for loop in loops],
            "write_first": written.first,
            "write_stride": [loop[2] for loop in loops],
        },
    )


def copy(operator: Operator, source: Tensor, output: Tensor) -> Layer:
    """Return the call that copies all of a tensor."""
    flat = Region.whole((source.size,), source.type.size_bytes)
    return move(operator, source, flat, output, flat)


def take(operator: Operator, source: Tensor, read: Region, output: Tensor) -> Lowered:
    """Make `output` of a region of `source`: a view where that is possible."""
    require_same_values(operator, source, output)
    if math.prod(read.extents) != output.size:
        raise operator.malformed(
            f"{output.label} has {output.size} elements; {math.prod(read.extents)} are taken from {source.label}"
        )
    if source.data is None and read.in_order(source.type.size_bytes) and read.first % ALIGNMENT_BYTES == 0:
        return [View(output, source, read.first)]
    return [move(operator, source, read, output, Region.whole(read.extents, output.type.size_bytes))]


def put(operator: Operator, source: Tensor, output: Tensor, written: Region) -> Layer | Join:
    """Put all of `source` into a region of `output`: made there at once where that is possible."""
    require_same_values(operator, source, output)
    call = move(operator, source, Region.whole(written.extents, source.type.size_bytes), output, written)
    if written.in_order(output.type.size_bytes) and written.first % ALIGNMENT_BYTES == 0:
        return Join(View(source, output, written.first), call)
    return call


def require_same_values(operator: Operator, source: Tensor, output: Tensor) -> None:
    """Raise UnsupportedModelError unless bytes mean the same in both tensors."""
    for tensor in (source, output):
        if tensor.type.size_bytes == 0:
            raise operator.unsupported(
                f"{tensor.label} is {tensor.type_name}; int8, uint8, int16, int32 and float32 can be moved",
                "Convert with full int8 quantisation",
            )
    if source.type is not output.type or source.quantisation != output.quantisation:
        raise operator.unsupported(
            f"{source.label} and {output.label} differ in type or scale, and this operator rescales nothing",
            "Convert the model again; a QUANTIZE belongs between them",
        )


def lower_transpose(operator: Operator) -> Lowered:
    """Lower a permutation of axes; where only axes of one element move, it is a view."""
    source = operator.input(0)
    order = constant_integers(operator, 1, "permutation")
    if sorted(order) != list(range(len(source.shape))):
        raise operator.malformed(f"its permutation {list(order)} does not fit {source.label}")
    return take(operator, source, _all_of(source).permuted(order), operator.output)


def lower_slice(operator: Operator) -> Lowered:
    """Lower a block cut out along every axis."""
    source = operator.input(0)
    begins, sizes = constant_integers(operator, 1, "begin"), constant_integers(operator, 2, "size")
    if not len(begins) == len(sizes) == len(source.shape):
        raise operator.malformed(f"its begin and size do not fit {source.label}")
    region = _all_of(source)
    for axis, (begin, size, length) in enumerate(zip(begins, sizes, source.shape, strict=True)):
        extent = length - begin if size == -1 else size
        if not (0 <= begin < length and 0 < extent <= length - begin):
            raise operator.malformed(f"it cuts {size} elements from {begin} on, along axis {axis} of {length}")
        region = region.cut(axis, begin, extent)
    return take(operator, source, region, operator.output)


def lower_strided_slice(operator: Operator) -> Lowered:
    """Lower what Python writes ``x[begin:end:step, ...]``."""
    source = operator.input(0)
    begins, ends, steps = (constant_integers(operator, i + 1, what) for i, what in enumerate(("begin", "end", "steps")))
    if operator.option("EllipsisMask") or operator.option("NewAxisMask") or operator.option("Offset"):
        raise operator.unsupported("it uses an ellipsis, a new axis or offsets", "Name begin and end of every axis")
    if not len(begins) == len(ends) == len(steps) <= len(source.shape):
        raise operator.malformed(f"its begin, end and steps do not fit {source.label}")
    region = _all_of(source)
    for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if step == 0:
            raise operator.malformed(f"its step along axis {axis} is 0")
        masked_begin = None if operator.option("BeginMask") >> axis & 1 else begin
        masked_end = None if operator.option("EndMask") >> axis & 1 else end
        if operator.option("ShrinkAxisMask") >> axis & 1:
            masked_end = None if begin == -1 else begin + 1
            masked_begin = begin
        taken = range(*slice(masked_begin, masked_end, step).indices(source.shape[axis]))
        if not taken:
            raise operator.malformed(f"it takes nothing along axis {axis}")
        region = region.cut(axis, taken[0], len(taken), step)
    return take(operator, source, region, operator.output)


def lower_split(operator: Operator) -> Lowered:
    """Lower a split into equal parts, or into parts of the sizes that are given (SPLIT_V)."""
    by_sizes = operator.name == "SPLIT_V"
    source = operator.input(0 if by_sizes else 1)
    axis = _axis(operator, source, constant_integers(operator, 2 if by_sizes else 0, "axis"))
    return _parts(operator, source, axis, [output.shape[axis : axis + 1] for output in operator.outputs])


def lower_unpack(operator: Operator) -> Lowered:
    """Lower a split into parts of one element each, without the axis."""
    source = operator.input(0)
    axis = _axis(operator, source, (operator.option("Axis"),))
    return _parts(operator, source, axis, [(1,)] * len(operator.outputs))


def _parts(operator: Operator, source: Tensor, axis: int, extents: Sequence[tuple[int, ...]]) -> Lowered:
    lowered: list[Layer | View | Join] = []
    begin = 0
    for output, extent in zip(operator.outputs, extents, strict=True):
        if not extent or begin + extent[0] > source.shape[axis]:
            raise operator.malformed(f"{output.label} lies outside {source.label}")
        lowered.extend(take(operator, source, _all_of(source).cut(axis, begin, extent[0]), output))
        begin += extent[0]
    if begin != source.shape[axis]:
        raise operator.malformed(f"its outputs cover {begin} of {source.shape[axis]} elements along axis {axis}")
    return lowered


def lower_concatenation(operator: Operator) -> Lowered:
    """Lower a concatenation: where the parts lie in a row, their layers write them there."""
    if operator.option("FusedActivationFunction"):
        raise operator.unsupported("it has a fused activation", "Use an activation layer of its own")
    axis = _axis(operator, operator.output, (operator.option("Axis"),))
    shapes = [operator.input(i).shape for i in range(len(operator.inputs))]
    return _joined(operator, axis, shapes)


def lower_pack(operator: Operator) -> Lowered:
    """Lower a concatenation along a new axis."""
    axis = _axis(operator, operator.output, (operator.option("Axis"),))
    shapes = [operator.input(i).shape for i in range(len(operator.inputs))]
    return _joined(operator, axis, [(*shape[:axis], 1, *shape[axis:]) for shape in shapes])


def _joined(operator: Operator, axis: int, shapes: Sequence[tuple[int, ...]]) -> Lowered:
    output = operator.output
    lowered: list[Layer | View | Join] = []
    begin = 0
    for position, shape in enumerate(shapes):
        expected = (*output.shape[:axis], *shape[axis : axis + 1], *output.shape[axis + 1 :])
        if shape != expected or begin + shape[axis] > output.shape[axis]:
            raise operator.malformed(f"{operator.input(position).label} does not fit into {output.label}")
        written = _all_of(output).cut(axis, begin, shape[axis])
        lowered.append(put(operator, operator.input(position), output, written))
        begin += shape[axis]
    if begin != output.shape[axis]:
        raise operator.malformed(f"its inputs cover {begin} of {output.shape[axis]} elements along axis {axis}")
    return lowered


def lower_space_to_depth(operator: Operator) -> Lowered:
    """Lower SPACE_TO_DEPTH and DEPTH_TO_SPACE: permutations in five dimensions."""
    source, output, block = operator.input(0), operator.output, operator.option("BlockSize")
    gathers = operator.name == "SPACE_TO_DEPTH"
    space, depth = (source, output) if gathers else (output, source)
    if len(space.shape) != 4 or len(depth.shape) != 4 or block < 1:
        raise operator.malformed("it should have tensors of four dimensions and a positive block")
    batch, height, width, channels = space.shape
    if (
        depth.shape != (batch, height // block, width // block, channels * block * block)
        or height % block
        or width % block
    ):
        raise operator.malformed(f"{source.label} of {list(source.shape)} does not become {list(output.shape)}")
    # Axes of the space tensor are b, y, block y, x, block x, c; those of the depth tensor b, y, x, block y, block x, c.
    split = (batch, height // block, block, width // block, block, channels)
    order = (0, 1, 3, 2, 4, 5)
    element_bytes = source.type.size_bytes
    region = Region.whole(split, element_bytes).permuted(order)
    if gathers:
        return take(operator, source, region, output)
    require_same_values(operator, source, output)
    return [move(operator, source, Region.whole(region.extents, element_bytes), output, region)]


def lower_reverse(operator: Operator) -> Lowered:
    """Lower REVERSE_V2: axes that run backwards."""
    source = operator.input(0)
    region = _all_of(source)
    for given in constant_integers(operator, 1, "axes"):
        axis = _axis(operator, source, (given,))
        region = region.cut(axis, source.shape[axis] - 1, source.shape[axis], -1)
    return take(operator, source, region, operator.output)


def lower_broadcast(operator: Operator) -> Lowered:
    """Lower BROADCAST_TO: axes of one element are repeated."""
    source, output = operator.input(0), operator.output
    return take(operator, source, repeated(operator, source, output.shape), output)


def lower_tile(operator: Operator) -> Lowered:
    """Lower TILE: the whole tensor is repeated along every axis."""
    source, output = operator.input(0), operator.output
    times = constant_integers(operator, 1, "multiples")
    if len(times) != len(source.shape) or any(time < 1 for time in times):
        raise operator.malformed(f"its multiples {list(times)} do not fit {source.label}")
    region = _all_of(source)
    extents = [extent for pair in zip(times, region.extents, strict=True) for extent in pair]
    strides = [stride for own in region.strides for stride in (0, own)]
    return take(operator, source, Region(0, tuple(extents), tuple(strides)), output)


def repeated(operator: Operator, source: Tensor, shape: tuple[int, ...]) -> Region:
    """Return how a tensor is read so that it fills a larger shape by NumPy's rules of broadcasting."""
    region = _all_of(source)
    missing = len(shape) - len(source.shape)
    extents = (1,) * missing + region.extents
    if missing < 0 or any(extent not in {1, length} for extent, length in zip(extents, shape, strict=True)):
        raise operator.malformed(f"{source.label} of shape {list(source.shape)} does not broadcast to {list(shape)}")
    strides = (0,) * missing + region.strides
    return Region(
        0, shape, tuple(stride if extent != 1 else 0 for extent, stride in zip(extents, strides, strict=True))
    )


def lower_mirror_pad(operator: Operator) -> Lowered:
    """Lower padding by reflection: every corner, side and the middle is a copy, backwards where it is a reflection."""
    source, output = operator.input(0), operator.output
    amounts = _pairs(operator, source)
    require_same_values(operator, source, output)
    skipped = 0 if operator.option("Mode") else 1  # REFLECT leaves the border out, SYMMETRIC repeats it
    pieces: list[tuple[Region, Region]] = [(_all_of(source), _all_of(output))]
    for axis, (before, after) in enumerate(amounts):
        length = source.shape[axis]
        if not (0 <= before <= length - skipped and 0 <= after <= length - skipped):
            raise operator.malformed(f"it reflects {before} and {after} elements along axis {axis} of {length}")
        if output.shape[axis] != length + before + after:
            raise operator.malformed(f"{output.label} should measure {length + before + after} along axis {axis}")
        # What is read from, in which direction, how much of it, and where it goes.
        parts = [
            (before - 1 + skipped, -1, before, 0),
            (0, 1, length, before),
            (length - 1 - skipped, -1, after, before + length),
        ]
        pieces = [
            (read.cut(axis, begin, extent, step), written.cut(axis, to, extent))
            for read, written in pieces
            for begin, step, extent, to in parts
            if extent
        ]
    return [move(operator, source, read, output, written) for read, written in pieces]


def _pairs(operator: Operator, source: Tensor) -> list[tuple[int, int]]:
    flat = constant_integers(operator, 1, "paddings")
    if len(flat) != 2 * len(source.shape) or len(operator.output.shape) != len(source.shape):
        raise operator.malformed(f"its paddings do not fit the {len(source.shape)} dimensions of {source.label}")
    return list(zip(flat[::2], flat[1::2], strict=True))


def constant_integers(operator: Operator, position: int, what: str) -> tuple[int, ...]:
    """Return the values of an input that must be an int32 constant."""
    tensor = operator.input(position)
    if tensor.data is None or tensor.type is not ElementType.INT32:
        raise operator.unsupported(
            f"its {what}, {tensor.label}, is not an int32 constant", f"Give the layer a constant {what}"
        )
    return tuple(tensor.int32_values().reshape(-1).tolist())


def _axis(operator: Operator, tensor: Tensor, axes: tuple[int, ...]) -> int:
    rank = len(tensor.shape)
    if len(axes) != 1 or not -rank <= axes[0] < rank:
        raise operator.malformed(f"its axis {list(axes)} does not exist in {tensor.label} of {rank} dimensions")
    return axes[0] % rank


def _all_of(tensor: Tensor) -> Region:
    return Region.whole(tensor.shape, tensor.type.size_bytes)
