"""Resize: to the nearest pixel or interpolated, in the forms that TensorFlow Lite has, channels last."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.operators.convolutions import channels_first, channels_last
from services.artifact_builder.inputs.onnx.view import Array, View

_SCALES, _SIZES = 2, 3
_Place = Callable[[Array, int, int, float], Array]
"""From the places of outputs, sizes of input and output, and the scale to places among the inputs."""
_PLACES: Final[Mapping[str, _Place]] = {
    "half_pixel": lambda x, _in, _out, scale: (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, _in, out, scale: (x + 0.5) / scale - 0.5 if out > 1 else 0 * x,
    "asymmetric": lambda x, _in, _out, scale: x / scale,
    "align_corners": lambda x, size, out, _scale: x * (size - 1) / max(out - 1, 1),
}
_ROUNDED: Final[Mapping[str, Callable[[Array], Array]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
_INTERPOLATED: Final[Mapping[str, Mapping[str, bool]]] = {
    "half_pixel": {"half_pixel_centers": True},
    "pytorch_half_pixel": {"half_pixel_centers": True},
    "asymmetric": {},
    "align_corners": {"align_corners": True},
}


def _resize(call: Call) -> View:
    view, mode = call.view(), _text(call, "mode", "nearest")
    sizes = view.shape
    if len(sizes) not in {3, 4} or call.attribute("antialias", 0) or call.attribute("axes") is not None:
        call.node.refuse(f"it resizes {list(sizes)} along some axes, or smooths", "resize pictures or series, plainly")
    scales, made = _scaled(call, sizes)
    if made[:2] != sizes[:2]:
        call.node.refuse(f"it makes {list(made)} of {list(sizes)}", "leave batch and channels as they are")
    how = _text(call, "coordinate_transformation_mode", "half_pixel")
    resized: Callable[..., object]
    options: Mapping[str, bool] = {}
    if mode == "nearest":
        _require_lowest_pixels(call, how, list(zip(sizes[2:], made[2:], scales[2:], strict=True)))
        resized = tf.raw_ops.ResizeNearestNeighbor
    elif mode == "linear" and how in _INTERPOLATED:
        resized, options = tf.raw_ops.ResizeBilinear, _INTERPOLATED[how]
    else:
        call.node.refuse(f"its mode is {mode} with {how}", f"use nearest, or linear with {', '.join(_INTERPOLATED)}")
    lead = (1,) * (4 - len(sizes))
    tensor = resized(images=channels_last(view), size=(*lead, *made[2:]), **options)
    return channels_first(tensor, len(sizes), nonnegative=view.nonnegative)


def _scaled(call: Call, sizes: tuple[int, ...]) -> tuple[list[float], tuple[int, ...]]:
    """Return by what each axis is multiplied, and what comes of it."""
    if call.has(_SIZES):
        made = tuple(int(size) for size in call.constant(_SIZES))
        if call.attribute("keep_aspect_ratio_policy", b"stretch") not in {b"stretch", "stretch"}:
            call.node.refuse("it keeps the aspect ratio", "name the sizes that come out")
        return [one / other for one, other in zip(made, sizes, strict=True)], made
    scales = [float(scale) for scale in call.constant(_SCALES)]
    exact = [scale * size for scale, size in zip(scales, sizes, strict=True)]
    made = tuple(int(np.floor(size + 1e-5)) for size in exact)
    if any(abs(size - whole) > 1e-4 for size, whole in zip(exact, made, strict=True)):
        call.node.refuse(f"{list(sizes)} by {scales} gives no whole sizes", "name the sizes that come out")
    return scales, made


def _require_lowest_pixels(call: Call, how: str, axes: list[tuple[int, int, float]]) -> None:
    """Refuse other pixels than TensorFlow Lite takes: the one that the output's lower edge lies in."""
    rounding = _text(call, "nearest_mode", "round_prefer_floor")
    if how not in _PLACES or rounding not in _ROUNDED:
        call.node.refuse(f"its places are {how}, rounded by {rounding}", f"use one of {', '.join(_PLACES)}")
    for size, made, scale in axes:
        theirs = _ROUNDED[rounding](_PLACES[how](np.arange(made), size, made, scale)).clip(0, size - 1)
        if np.any(theirs != np.arange(made) * size // made):
            call.node.refuse(
                f"from {size} to {made} it takes other pixels, by {how} and {rounding}, than a board",
                "multiply the size by a whole number, or use asymmetric and floor",
            )


def _text(call: Call, name: str, default: str) -> str:
    found = call.attribute(name, default)
    return found.decode() if isinstance(found, bytes) else str(found)


OPERATORS: Final[Mapping[str, Callable[[Call], View]]] = {"Resize": _resize}
