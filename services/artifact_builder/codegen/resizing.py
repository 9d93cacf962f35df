"""Lowering of operators that make images larger: padding by a value, repetition of pixels, and interpolation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.quantisation import activation_tensor, require_tflm
from shared.events.lab import Numerics

_PAD_DIMENSIONS = 4
_MAXIMUM_SIDE = 4096


def lower_pad(operator: Operator) -> Layer:
    """Lower padding by a constant value."""
    source = activation_tensor(operator, operator.input(0))
    rank = len(source.shape)
    paddings = operator.input(1)
    if paddings.data is None or paddings.type is not ElementType.INT32:
        raise operator.unsupported("its paddings are not an int32 constant", "Use constant paddings")
    amounts = paddings.int32_values()
    if amounts.shape != (rank, 2) or (amounts < 0).any():
        raise operator.malformed(f"its paddings {amounts.tolist()} do not fit {rank} dimensions")
    padded = tuple(int(size + pair.sum()) for size, pair in zip(source.shape, amounts, strict=True))
    if padded != operator.output.shape:
        raise operator.malformed(f"its output should have the shape {list(padded)}")
    if (source.scale, source.zero_point) != (operator.output.scale, operator.output.zero_point):
        raise operator.unsupported("its input and output have different scales", "Convert the model again")
    pairs = [(int(pair[0]), int(pair[1])) for pair in amounts]
    return pad(operator, source, pairs, operator.output, _pad_value(operator))


def pad(operator: Operator, source: Tensor, amounts: Sequence[tuple[int, int]], output: Tensor, value: int) -> Layer:
    """Return the call that pads a tensor by a value."""
    if len(source.shape) > _PAD_DIMENSIONS:
        raise operator.unsupported(
            f"it pads {len(source.shape)} dimensions; up to 4 are supported", "Reshape before padding"
        )
    lead = [1] * (_PAD_DIMENSIONS - len(source.shape))
    return Layer(
        kernel="el_pad",
        inputs=(source,),
        output=output,
        fields={
            "input": [*lead, *source.shape],
            "before": [*(0 for _ in lead), *(pair[0] for pair in amounts)],
            "output": [*lead, *output.shape],
            "value": value,
        },
    )


def _pad_value(operator: Operator) -> int:
    constant = operator.optional_input(2)
    if constant is None:
        return operator.output.zero_point
    if constant.data is None or constant.size != 1:
        raise operator.unsupported("its padding value is not a constant", "Use a constant padding value")
    return int(activation_tensor(operator, constant).int8_values().reshape(-1)[0])


def lower_resize_nearest(operator: Operator) -> Layer:
    """Lower a resize that takes the nearest pixel; which ones these are is computed here."""
    source, output = _images(operator)
    rows = _nearest(operator, source.shape[1], output.shape[1])
    columns = _nearest(operator, source.shape[2], output.shape[2])
    return _resize("el_resize_nearest", source, output, rows, columns)


def lower_resize_bilinear(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower a resize that interpolates between four pixels, with whole numbers as ResizeBilinearInteger does."""
    require_tflm(operator, numerics, "resize to the nearest pixel", "XNNPACK weighs otherwise")
    source, output = _images(operator)
    activation_tensor(operator, output)
    rows = _between(operator, source.shape[1], output.shape[1])
    columns = _between(operator, source.shape[2], output.shape[2])
    return [_resize("el_resize_bilinear", source, output, rows, columns)]


def _images(operator: Operator) -> tuple[Tensor, Tensor]:
    source, output = activation_tensor(operator, operator.input(0)), operator.output
    if len(source.shape) != 4 or len(output.shape) != 4 or source.shape[0] != 1 or source.shape[3] != output.shape[3]:
        raise operator.malformed(f"{source.label} of {list(source.shape)} does not resize to {list(output.shape)}")
    if source.quantisation != output.quantisation:
        raise operator.unsupported("its input and output have different scales", "Convert the model again")
    return source, output


def _resize(kernel: str, source: Tensor, output: Tensor, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Layer:
    return Layer(
        kernel=kernel,
        inputs=(source,),
        output=output,
        fields={
            "output_height": output.shape[1],
            "output_width": output.shape[2],
            "input_width": source.shape[2],
            "channels": output.shape[3],
        },
        arrays={"rows": rows, "columns": columns},
    )


def _between(operator: Operator, length: int, made: int) -> NDArray[np.int32]:
    """Return for every place of the output two places of the input, and the second one's weight in 1/1024."""
    if max(length, made) > _MAXIMUM_SIDE:
        raise operator.unsupported(f"it resizes {length} to {made}; up to {_MAXIMUM_SIDE} are supported", "Resize less")
    aligned = operator.option("AlignCorners") and made > 1
    steps, parts = (length - 1, made - 1) if aligned else (length, made)
    scale = ((steps << 10) + parts // 2) // parts
    # From centres the first place may lie before the first pixel: C divides towards zero there.
    places = [at * scale + (scale // 2 - (1 << 9) if operator.option("HalfPixelCenters") else 0) for at in range(made)]
    lower = [max(place >> 10, 0) for place in places]
    upper = [min(max((place + 1023) >> 10, 0), length - 1) for place in places]
    weights = [place - (low << 10) for place, low in zip(places, lower, strict=True)]
    return np.array(list(zip(lower, upper, weights, strict=True)), np.int32)


def _nearest(operator: Operator, length: int, made: int) -> NDArray[np.int32]:
    """Return the input's place for every place of the output, in float32 as GetNearestNeighbor computes it."""
    if max(length, made) > _MAXIMUM_SIDE:
        raise operator.unsupported(f"it resizes {length} to {made}; up to {_MAXIMUM_SIDE} are supported", "Resize less")
    aligned = operator.option("AlignCorners") and made > 1
    scale = np.float32(length - 1) / np.float32(made - 1) if aligned else np.float32(length) / np.float32(made)
    offset = np.float32(0.5 if operator.option("HalfPixelCenters") else 0.0)
    scaled = (np.arange(made, dtype=np.float32) + offset) * scale
    places = np.floor(scaled + np.float32(0.5)) if operator.option("AlignCorners") else np.floor(scaled)
    result: NDArray[np.int32] = np.clip(places, 0, length - 1).astype(np.int32)
    return result
