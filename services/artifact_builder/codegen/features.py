"""What a model asks of the kernels: decided by its layers, told to the compiler as macros in edgeloop_features.h."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from services.artifact_builder.codegen.convolutions import DEPTH_STEP
from services.artifact_builder.codegen.layers import Layer, Values
from services.artifact_builder.codegen.quantisation import INT8_MAX, INT8_MIN

_LARGEST_SIZE: Final = (1 << 15) - 1
_PACKED_BIAS_BITS: Final = 24
_FAST_SHIFTS_BELOW: Final = -1
"""EL_FAST_SHIFTS_BELOW of the kernels."""
_BIAS: Final = "requantisation.bias"
_SHIFT: Final = "requantisation.shift"


def can_pack_shifts(layers: Iterable[Layer]) -> bool:
    """Whether every bias of layers that have shifts leaves 8 bits of its word to the shift."""
    limit = 1 << (_PACKED_BIAS_BITS - 1)
    biases = [layer.arrays[_BIAS] for layer in layers if _SHIFT in layer.arrays]
    return bool(biases) and all(((-limit <= bias) & (bias < limit)).all() for bias in biases)


def pack_shifts(layer: Layer) -> Layer:
    """Put the shift of every output channel below its bias, into one word."""
    if _SHIFT not in layer.arrays:
        return layer
    arrays: dict[str, Values] = dict(layer.arrays)
    shift = arrays.pop(_SHIFT)
    arrays[_BIAS] = (arrays[_BIAS].astype(np.int32) << 8) | (shift.astype(np.int32) & 0xFF)
    return replace(layer, arrays=arrays)


def features(layers: Sequence[Layer]) -> Mapping[str, int]:
    """Return the macros of edgeloop_features.h, for layers that are not packed yet."""
    convolutions = [layer for layer in layers if layer.kernel == "el_conv2d"]
    return {
        "EL_WIDE_SIZES": int(any(size > _LARGEST_SIZE for layer in layers for size in _sizes(layer))),
        "EL_PACKED_SHIFTS": int(can_pack_shifts(layers)),
        "EL_ALL_FIT_FAST_STEPS": int(all(_fits_fast_steps(layer) for layer in layers if _BIAS in layer.arrays)),
        "EL_CONV_GROUPS": int(any(layer.fields["groups"] != 1 for layer in convolutions)),
        "EL_CONV_DILATION": int(any(_is_dilated(layer) for layer in convolutions)),
        "EL_CONV_WINDOW": max((_window_values(layer) for layer in convolutions), default=DEPTH_STEP),
    }


def _sizes(layer: Layer) -> Iterator[int]:
    """Return what the struct of a layer with a window holds as `el_size`."""
    if "window" in layer.fields:
        for member in ("input", "output", "window"):
            yield from _members(layer, member).values()
        yield from (_number(layer.fields.get(member, 0)) for member in ("groups", "depth_multiplier"))


def _fits_fast_steps(layer: Layer) -> bool:
    limits = _members(layer, "requantisation")
    whole = (limits["minimum"], limits["maximum"]) == (INT8_MIN, INT8_MAX)
    return whole and (_SHIFT not in layer.arrays or bool((layer.arrays[_SHIFT] < _FAST_SHIFTS_BELOW).all()))


def _is_dilated(layer: Layer) -> bool:
    window = _members(layer, "window")
    return (window["dilation_height"], window["dilation_width"]) != (1, 1)


def _window_values(layer: Layer) -> int:
    """Return how many values of a group a window sees, in whole steps of the inner loop."""
    window = _members(layer, "window")
    depth = _members(layer, "input")["channels"] // _number(layer.fields["groups"])
    return -(-window["height"] * window["width"] * depth // DEPTH_STEP) * DEPTH_STEP


def _members(layer: Layer, member: str) -> dict[str, int]:
    found = layer.fields[member]
    assert isinstance(found, Mapping)
    return {name: _number(value) for name, value in found.items()}


def _number(value: object) -> int:
    return int(str(value))
