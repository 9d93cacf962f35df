"""Lowering of transposed convolutions."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from services.artifact_builder.codegen import litert
from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Values
from services.artifact_builder.codegen.quantisation import (
    activation_range,
    activation_tensor,
    bias_values,
    double_product_multipliers,
    requantisation,
    weights_tensor,
)
from shared.events.lab import Numerics

_SAME: Final = 0


def lower_transpose_conv(operator: Operator, numerics: Numerics) -> Layer:
    """Lower a transposed convolution. Its inputs are the output's shape, the weights, the image, and maybe a bias."""
    source = activation_tensor(operator, operator.input(2))
    output, filters = operator.output, operator.input(1)
    if not len(source.shape) == len(output.shape) == len(filters.shape) == 4:
        raise operator.malformed("its input, weights and output should have four dimensions")
    if source.shape[0] != 1:
        raise operator.unsupported(
            f"{source.label} has a batch of {source.shape[0]}", "Convert the model with the batch fixed to 1"
        )
    channels = output.shape[3]
    if filters.shape[0] != channels or filters.shape[3] != source.shape[3]:
        raise operator.malformed(f"weights {list(filters.shape)} fit neither input nor output")
    weights, scales = weights_tensor(operator, filters, channels)
    fields, arrays = _requantisation(operator, numerics, source, scales)
    return Layer(
        kernel="el_transpose_conv2d",
        inputs=(source,),
        output=output,
        fields={
            "input": {"height": source.shape[1], "width": source.shape[2], "channels": source.shape[3]},
            "output": {"height": output.shape[1], "width": output.shape[2], "channels": channels},
            "window": _window(operator, source, output, filters),
            "input_zero_point": source.zero_point,
            "requantisation": fields,
        },
        arrays={
            "weights": weights,
            "requantisation.bias": bias_values(operator, operator.optional_input(3), channels).astype(np.int32),
            **arrays,
        },
        macs=source.size * channels * filters.shape[1] * filters.shape[2],
    )


def _requantisation(
    operator: Operator, numerics: Numerics, source: Tensor, scales: tuple[float, ...]
) -> tuple[Mapping[str, object], Mapping[str, Values]]:
    if numerics is Numerics.LITERT:
        return litert.requantisation(operator, source, scales, operator.output)
    multipliers = double_product_multipliers(scales, source, operator.output)
    return requantisation(multipliers, operator.output, activation_range(operator, operator.output))


def _window(operator: Operator, source: Tensor, output: Tensor, filters: Tensor) -> dict[str, object]:
    """Return the window that an ordinary convolution from the output to the input would have."""
    strides = (operator.option("StrideH"), operator.option("StrideW"))
    if min(strides) < 1:
        raise operator.malformed(f"its strides {list(strides)} are not positive")
    pads = []
    for axis, stride in enumerate(strides, 1):
        length, reach, made = source.shape[axis], filters.shape[axis], output.shape[axis]
        same = operator.option("Padding") == _SAME
        expected = -(-made // stride) if same else (made - reach) // stride + 1
        if length != expected:
            raise operator.malformed(f"its input should measure {expected} along axis {axis}, not {length}")
        pads.append(max((length - 1) * stride + reach - made, 0) // 2)
    return {
        "height": filters.shape[1],
        "width": filters.shape[2],
        "stride_height": strides[0],
        "stride_width": strides[1],
        "dilation_height": 1,
        "dilation_width": 1,
        "pad_top": pads[0],
        "pad_left": pads[1],
    }
