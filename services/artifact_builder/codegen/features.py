"""What a model asks of the kernels: decided by its layers, told to the compiler as macros in edgeloop_features.h."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from services.artifact_builder.codegen.convolutions import DEPTH_STEP
from services.artifact_builder.codegen.layers import Layer
from services.artifact_builder.codegen.packing import BIAS, SHIFT, Packing
from services.artifact_builder.codegen.quantisation import INT8_MAX, INT8_MIN

_ROWS: Final = 4
"""EL_ROWS of the kernels, with the DSP extension."""
_TILE_LINES: Final = 14
_TILE_LINE_VALUES: Final = 62
"""LINES and LINE_VALUES of depthwise_conv2d_3x3.c."""
_FAST_SHIFTS_BELOW: Final = -1
"""EL_FAST_SHIFTS_BELOW of the kernels."""


def features(layers: Sequence[Layer]) -> Mapping[str, int]:
    """Return the macros of edgeloop_features.h, for layers that are not packed yet."""
    largest_size = max((size for layer in layers for size in _sizes(layer)), default=0)
    convolutions = [layer for layer in layers if layer.kernel == "el_conv2d"]
    depthwise = [layer for layer in layers if layer.struct == "el_depthwise_conv2d"]
    return {
        "EL_SIZE_BITS": next(bits for bits in (8, 16, 32) if largest_size < 1 << bits),
        **Packing.of(layers).features(),
        "EL_ALL_FIT_FAST_STEPS": int(all(_fits_fast_steps(layer) for layer in layers if BIAS in layer.arrays)),
        "EL_CONV_GROUPS": int(any(layer.fields["groups"] != 1 for layer in convolutions)),
        "EL_CONV_DILATION": int(any(_is_dilated(layer) for layer in convolutions)),
        "EL_CONV_WINDOW": max((_window_values(layer) for layer in convolutions), default=DEPTH_STEP),
        "EL_CONV_CHANNELS": max((_channels(layer) for layer in convolutions), default=1),
        "EL_CONV_SINGLE_PIXELS": int(_single_pixels(convolutions) > sum(layer.macs for layer in layers) // 100),
        "EL_DEPTHWISE_MULTIPLIER": int(any(layer.fields["depth_multiplier"] != 1 for layer in depthwise)),
        "EL_DEPTHWISE_STRIDES": int(any(max(_strides(layer)) > 1 for layer in depthwise)),
        "EL_DEPTHWISE_TILES": int(not all(map(_fits_tile, depthwise))),
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
    return whole and (SHIFT not in layer.arrays or bool((layer.arrays[SHIFT] < _FAST_SHIFTS_BELOW).all()))


def _is_dilated(layer: Layer) -> bool:
    window = _members(layer, "window")
    return (window["dilation_height"], window["dilation_width"]) != (1, 1)


def _window_values(layer: Layer) -> int:
    """Return how many values of a group a window sees, in whole steps of the inner loop."""
    window = _members(layer, "window")
    depth = _members(layer, "input")["channels"] // _number(layer.fields["groups"])
    return -(-window["height"] * window["width"] * depth // DEPTH_STEP) * DEPTH_STEP


def _channels(layer: Layer) -> int:
    return _members(layer, "output")["channels"] // _number(layer.fields["groups"])


def _single_pixels(convolutions: Sequence[Layer]) -> int:
    """Return the multiply-accumulates in pixels that conv2d.c computes alone: what is left of fours."""
    return sum(layer.macs // pixels * (pixels % _ROWS) for layer in convolutions for pixels in [_pixels(layer)])


def _pixels(layer: Layer) -> int:
    output = _members(layer, "output")
    return output["height"] * output["width"]


def _strides(layer: Layer) -> tuple[int, int]:
    window = _members(layer, "window")
    return window["stride_height"], window["stride_width"]


def _fits_tile(layer: Layer) -> bool:
    """Whether one tile of depthwise_conv2d_3x3.c holds the image, whose longer axis runs along its lines."""
    output, strides = _members(layer, "output"), _strides(layer)
    wide = output["width"] >= output["height"]
    along, across = (1, 0) if wide else (0, 1)
    outputs = (output["height"], output["width"])
    return all(
        (outputs[axis] - 1) * strides[axis] + 3 <= room
        for axis, room in ((along, _TILE_LINE_VALUES), (across, _TILE_LINES))
    )


def _members(layer: Layer, member: str) -> dict[str, int]:
    found = layer.fields[member]
    assert isinstance(found, Mapping)
    return {name: _number(value) for name, value in found.items()}


def _number(value: object) -> int:
    return int(str(value))
