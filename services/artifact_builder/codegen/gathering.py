"""Lowering of GATHER with constant indices, and of SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: copies in another order."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.movement import Region, constant_integers, move, require_same_values, take
from services.artifact_builder.codegen.quantisation import activation_tensor
from services.artifact_builder.codegen.resizing import pad
from shared.events.lab import Numerics

_MAXIMUM_RUNS: Final = 1024
_FIRST_PADDED_INDEX: Final = -3_000_000


def lower_gather(operator: Operator) -> Lowered:
    """Lower a choice of elements along one axis; what follows in even steps is one copy."""
    source, output = operator.input(0), operator.output
    rank, axis = len(source.shape), operator.option("Axis")
    indices = constant_integers(operator, 1, "indices")
    if operator.option("BatchDims"):
        raise operator.unsupported("it has batch dimensions", "Choose with the same indices for the whole batch")
    if not -rank <= axis < rank or not indices:
        raise operator.malformed(f"its axis {axis} does not exist in {source.label}, or it has no indices")
    axis %= rank
    length, inner = source.shape[axis], math.prod(source.shape[axis + 1 :])
    outer = source.size // (length * inner)
    if not all(0 <= index < length for index in indices):
        raise operator.malformed(f"its indices {list(indices[:8])} do not lie in {source.label}")
    if output.size != outer * len(indices) * inner:
        raise operator.malformed(f"{output.label} should have {outer * len(indices) * inner} elements")
    read = Region.whole((outer, length, inner), source.type.size_bytes)
    runs = _even_runs(indices)
    if len(runs) == 1:
        begin, count, step = runs[0]
        return take(operator, source, read.cut(1, begin, count, step), output)
    if len(runs) > _MAXIMUM_RUNS:
        raise operator.unsupported(
            f"its indices are {len(runs)} runs; up to {_MAXIMUM_RUNS} are supported", "Choose fewer, or in order"
        )
    require_same_values(operator, source, output)
    written = Region.whole((outer, len(indices), inner), source.type.size_bytes)
    layers: list[Layer] = []
    at = 0
    for begin, count, step in runs:
        layers.append(move(operator, source, read.cut(1, begin, count, step), output, written.cut(1, at, count)))
        at += count
    return layers


def _even_runs(indices: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return begin, count and step of indices that follow each other in even steps."""
    runs: list[tuple[int, int, int]] = []
    for index in indices:
        if runs:
            begin, count, step = runs[-1]
            if count == 1:
                runs[-1] = (begin, 2, index - begin)
                continue
            if index == begin + count * step:
                runs[-1] = (begin, count + 1, step)
                continue
        runs.append((index, 1, 1))
    return runs


def lower_space_to_batch(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower SPACE_TO_BATCH_ND: padding, and then every block's elements apart."""
    source, output = operator.input(0), operator.output
    blocks, amounts = _blocks(operator, source, "paddings")
    before: list[Layer] = []
    if any(any(pair) for pair in amounts):
        activation_tensor(operator, source)
        if numerics is Numerics.TFLM:
            raise operator.unsupported(
                f"it pads {source.label}, and {numerics} pads with whatever its memory holds",
                "Pad by a layer of its own before it",
            )
        rest = len(source.shape) - 1 - len(blocks)
        pairs = [(0, 0), *amounts, *[(0, 0)] * rest]
        shape = tuple(size + sum(pair) for size, pair in zip(source.shape, pairs, strict=True))
        padded = replace(
            source, index=_FIRST_PADDED_INDEX - operator.index, name=f"{source.name} padded", shape=shape, data=None
        )
        before.append(pad(operator, source, pairs, padded, output.zero_point))
        source = padded
    region = _apart(operator, source, output, blocks)
    require_same_values(operator, source, output)
    whole = Region.whole(region.extents, source.type.size_bytes)
    return [*before, move(operator, source, region, output, whole)]


def lower_batch_to_space(operator: Operator) -> Lowered:
    """Lower BATCH_TO_SPACE_ND: blocks are put together, and the borders cut off."""
    source, output = operator.input(0), operator.output
    blocks, amounts = _blocks(operator, source, "crops")
    spatial = [size * block for size, block in zip(source.shape[1:], blocks, strict=False)]
    shape = (source.shape[0] // math.prod(blocks), *spatial, *source.shape[1 + len(blocks) :])
    whole = replace(
        output, index=_FIRST_PADDED_INDEX - operator.index, name=f"{output.name} before it is cut", shape=shape
    )
    target = whole if any(any(pair) for pair in amounts) else output
    region = _apart(operator, whole, source, blocks)
    require_same_values(operator, source, output)
    read = Region.whole(region.extents, source.type.size_bytes)
    together = move(operator, source, read, target, region)
    if target is output:
        return [together]
    cut = Region.whole(shape, source.type.size_bytes)
    for axis, (first, last) in enumerate(amounts, 1):
        if first + last >= shape[axis]:
            raise operator.malformed(f"its crops {list(amounts)} leave nothing along axis {axis}")
        cut = cut.cut(axis, first, shape[axis] - first - last)
    return [together, *take(operator, whole, cut, output)]


def _blocks(operator: Operator, source: Tensor, what: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    blocks, flat = constant_integers(operator, 1, "block"), constant_integers(operator, 2, what)
    if not 1 <= len(blocks) < len(source.shape) or len(flat) != 2 * len(blocks) or min(*blocks, *flat, 1) < 0:
        raise operator.malformed(f"its block {list(blocks)} and {what} {list(flat)} do not fit {source.label}")
    if 0 in blocks:
        raise operator.malformed(f"its block {list(blocks)} holds a zero")
    return blocks, list(zip(flat[::2], flat[1::2], strict=True))


def _apart(operator: Operator, space: Tensor, batch: Tensor, blocks: Sequence[int]) -> Region:
    """Return the elements of the tensor with the larger images in the order of the one with the larger batch."""
    axes = range(1, 1 + len(blocks))
    shape = list(space.shape)
    split, expected = [shape[0]], [shape[0] * math.prod(blocks)]
    for axis, block in zip(axes, blocks, strict=True):
        if shape[axis] % block:
            raise operator.malformed(f"{space.label} does not split into blocks of {block} along axis {axis}")
        split.extend((shape[axis] // block, block))
        expected.append(shape[axis] // block)
    rest = shape[1 + len(blocks) :]
    if batch.shape != (*expected, *rest):
        raise operator.malformed(f"{batch.label} should have the shape {[*expected, *rest]}")
    inside = [2 * place for place in axes]
    order = (*inside, 0, *(place - 1 for place in inside), *range(len(split), len(split) + len(rest)))
    return Region.whole((*split, *rest), space.type.size_bytes).permuted(order)
