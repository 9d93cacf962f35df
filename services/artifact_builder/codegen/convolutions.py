"""Lowering of the operators with weights, and of pooling, which moves a window as they do."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen import litert
from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Values
from services.artifact_builder.codegen.quantisation import (
    activation_range,
    activation_tensor,
    bias_values,
    double_product_multipliers,
    float_product_multiplier,
    requantisation,
    weights_tensor,
)
from shared.events.lab import Numerics

_SAME = 0
DEPTH_STEP = 4
"""EL_DEPTH_STEP of the kernels."""
_ONE_PIXEL = {
    "height": 1,
    "width": 1,
    "stride_height": 1,
    "stride_width": 1,
    "dilation_height": 1,
    "dilation_width": 1,
    "pad_top": 0,
    "pad_left": 0,
}


def channel_pairs(weights: NDArray[np.int8], groups: int = 1) -> NDArray[np.int8]:
    """Interleave weights of shape (channels, depth) as `firmware/kernels/matrix.h` wants them.

    Values of two channels of a group take turns: a0 b0 a1 b1 and so on. What lacks to an even number of channels and
    to a depth that is a multiple of 4 is filled with zeros.
    """
    channels, depth = weights.shape[0] // groups, weights.shape[1]
    split = weights.reshape(groups, channels, depth)
    padded = np.pad(split, ((0, 0), (0, channels % 2), (0, -depth % DEPTH_STEP)))
    pairs = padded.reshape(groups, -1, 2, padded.shape[2]).swapaxes(2, 3)
    return np.ascontiguousarray(pairs)


def lower_conv_2d(operator: Operator, numerics: Numerics) -> Layer:
    """Lower a convolution, grouped or dilated as it may be."""
    filters = operator.input(1)
    source, output = _images(operator, filters)
    if len(filters.shape) != 4 or filters.shape[0] != output.shape[3] or source.shape[3] % filters.shape[3]:
        raise operator.malformed(f"weights {list(filters.shape)} fit neither input nor output")
    channels = output.shape[3]
    groups = source.shape[3] // filters.shape[3]
    if channels % groups:
        raise operator.malformed(f"{channels} output channels do not split into {groups} groups")
    weights, scales = weights_tensor(operator, filters, channels)
    fields, arrays = _requantisation(operator, numerics, source, scales)
    return Layer(
        kernel="el_conv2d",
        inputs=(source,),
        output=output,
        fields={
            "input": _shape(source),
            "output": _shape(output),
            "window": _window(operator, source, output, filters.shape[1], filters.shape[2]),
            "groups": groups,
            "input_zero_point": source.zero_point,
            "requantisation": fields,
        },
        arrays={
            "weights": channel_pairs(weights.reshape(channels, -1), groups),
            "requantisation.bias": bias_values(operator, operator.optional_input(2), channels).astype(np.int32),
            **arrays,
        },
        macs=output.size * int(np.prod(filters.shape[1:])),
    )


def lower_depthwise_conv_2d(operator: Operator, numerics: Numerics) -> Layer:
    """Lower a depthwise convolution."""
    filters = operator.input(1)
    source, output = _images(operator, filters)
    channels = output.shape[3]
    if len(filters.shape) != 4 or filters.shape[0] != 1 or filters.shape[3] != channels or channels % source.shape[3]:
        raise operator.malformed(f"weights {list(filters.shape)} fit neither input nor output")
    weights, scales = weights_tensor(operator, filters, channels)
    fields, arrays = _requantisation(operator, numerics, source, scales)
    window = _window(operator, source, output, filters.shape[1], filters.shape[2])
    sizes = (window["height"], window["width"], window["dilation_height"], window["dilation_width"])
    return Layer(
        kernel="el_depthwise_conv2d_3x3" if sizes == (3, 3, 1, 1) else "el_depthwise_conv2d",
        struct="el_depthwise_conv2d",
        inputs=(source,),
        output=output,
        fields={
            "input": _shape(source),
            "output": _shape(output),
            "window": window,
            "depth_multiplier": channels // source.shape[3],
            "input_zero_point": source.zero_point,
            "requantisation": fields,
        },
        arrays={
            "weights": weights,
            "requantisation.bias": bias_values(operator, operator.optional_input(2), channels).astype(np.int32),
            **arrays,
        },
        macs=output.size * filters.shape[1] * filters.shape[2],
    )


def lower_fully_connected(operator: Operator, numerics: Numerics) -> Layer:
    """Lower a dense layer, with one scale or one per unit: a convolution whose window is one pixel."""
    source = activation_tensor(operator, operator.input(0))
    output = operator.output
    filters = operator.input(1)
    if len(filters.shape) != 2:
        raise operator.malformed(f"its weights have {len(filters.shape)} dimensions instead of two")
    units, depth = filters.shape
    rows = source.size // depth
    if rows * depth != source.size or rows * units != output.size:
        raise operator.malformed(f"weights {list(filters.shape)} fit neither input nor output")
    if operator.option("WeightsFormat"):
        raise operator.unsupported("its weights are shuffled", "Convert without shuffled weights")
    weights, scales = weights_tensor(operator, filters, units)
    fields, arrays = _requantisation(operator, numerics, source, scales)
    return Layer(
        kernel="el_conv2d",
        inputs=(source,),
        output=output,
        fields={
            "input": {"height": 1, "width": rows, "channels": depth},
            "output": {"height": 1, "width": rows, "channels": units},
            "window": _ONE_PIXEL,
            "groups": 1,
            "input_zero_point": source.zero_point,
            "requantisation": fields,
        },
        arrays={
            "weights": channel_pairs(weights),
            "requantisation.bias": bias_values(operator, operator.optional_input(2), units).astype(np.int32),
            **arrays,
        },
        macs=rows * units * depth,
    )


def lower_pool_2d(operator: Operator, numerics: Numerics) -> Layer:
    """Lower average and maximum pooling."""
    source = _image(operator, operator.input(0))
    output = _image(operator, operator.output)
    if source.shape[3] != output.shape[3]:
        raise operator.malformed("input and output differ in channels")
    if (source.scale, source.zero_point) != (output.scale, output.zero_point):
        raise operator.unsupported("its input and output have different scales", "Convert the model again")
    # XNNPACK has no int8 average pooling, so that LiteRT's own kernel takes it, whose limits are TFLM's.
    delegated = numerics is Numerics.LITERT and operator.name == "MAX_POOL_2D"
    low, high = (litert.activation_range if delegated else activation_range)(operator, output)
    return Layer(
        kernel="el_average_pool2d" if operator.name == "AVERAGE_POOL_2D" else "el_max_pool2d",
        struct="el_pool2d",
        inputs=(source,),
        output=output,
        fields={
            "input": _shape(source),
            "output": _shape(output),
            "window": _window(
                operator, source, output, operator.option("FilterHeight"), operator.option("FilterWidth")
            ),
            "minimum": low,
            "maximum": high,
        },
    )


def _requantisation(
    operator: Operator, numerics: Numerics, source: Tensor, scales: tuple[float, ...]
) -> tuple[Mapping[str, object], Mapping[str, Values]]:
    """Return the fields and arrays of `struct el_requantisation`; `scales` are the weights', per output channel."""
    output = operator.output
    if numerics is Numerics.LITERT:
        return litert.requantisation(operator, source, scales, output)
    multipliers = (
        [float_product_multiplier(scales[0], source, output)] * len(scales)
        if operator.name == "FULLY_CONNECTED" and len(operator.input(1).scales) == 1
        else double_product_multipliers(scales, source, output)
    )
    return requantisation(multipliers, output, activation_range(operator, output))


def _images(operator: Operator, filters: Tensor) -> tuple[Tensor, Tensor]:
    """Return input and output. Several lines, as a dilation over time becomes, are one image with that many lines."""
    source, output = operator.input(0), operator.output
    lines, made = ((*tensor.shape, 0, 0)[:2] for tensor in (source, output))
    window = (*filters.shape, 0, 0)[1], operator.option("StrideH")
    if lines[0] > 1 and lines == made and lines[1] == 1 and window == (1, 1):
        source, output = (replace(tensor, shape=(1, lines[0], *tensor.shape[2:])) for tensor in (source, output))
    return _image(operator, source), _image(operator, output)


def _image(operator: Operator, tensor: Tensor) -> Tensor:
    activation_tensor(operator, tensor)
    if len(tensor.shape) != 4:
        raise operator.malformed(f"{tensor.label} has {len(tensor.shape)} dimensions instead of four")
    if tensor.shape[0] != 1:
        raise operator.unsupported(
            f"{tensor.label} has a batch of {tensor.shape[0]}", "Convert the model with the batch fixed to 1"
        )
    return tensor


def _shape(tensor: Tensor) -> dict[str, object]:
    return {"height": tensor.shape[1], "width": tensor.shape[2], "channels": tensor.shape[3]}


def _window(operator: Operator, source: Tensor, output: Tensor, height: int, width: int) -> dict[str, object]:
    strides = (operator.option("StrideH"), operator.option("StrideW"))
    pooling = operator.name.endswith("POOL_2D")
    dilations = (
        (1, 1) if pooling else (operator.option("DilationHFactor") or 1, operator.option("DilationWFactor") or 1)
    )
    sizes = (height, width)
    if min(*strides, *dilations, *sizes) < 1:
        raise operator.malformed(f"its window {list(sizes)} or strides {list(strides)} are not positive")
    pads = []
    for axis, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
        reach = (size - 1) * dilation + 1
        length, made = source.shape[axis + 1], output.shape[axis + 1]
        same = operator.option("Padding") == _SAME
        expected = -(-length // stride) if same else (length - reach) // stride + 1
        if made != expected:
            raise operator.malformed(f"its output should measure {expected} along axis {axis + 1}, not {made}")
        pads.append(max((made - 1) * stride + reach - length, 0) // 2)
    return {
        "height": height,
        "width": width,
        "stride_height": strides[0],
        "stride_width": strides[1],
        "dilation_height": dilations[0],
        "dilation_width": dilations[1],
        "pad_top": pads[0],
        "pad_left": pads[1],
    }
