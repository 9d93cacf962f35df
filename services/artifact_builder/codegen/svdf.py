"""Lowering of SVDF: filters over the newest frame, and over what they gave for the last ones, which is the state.

Follows TFLM's svdf_common.cc: two factors in float32, and no activation but the clamp to int8.
"""

from typing import Final

import numpy as np

from services.artifact_builder.codegen.fixed_point import quantise_multiplier
from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered, Values
from services.artifact_builder.codegen.quantisation import (
    activation_tensor,
    bias_values,
    folded_bias,
    require_tflm,
    weights_tensor,
)
from shared.events.lab import Numerics

_INPUTS: Final = 5
_ACTIVATIONS: Final = (0, 1)
"""None and RELU, whose outputs begin at the zero point."""


def lower_svdf(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower an SVDF layer. Its state is a variable, which a reset sets to its zero point."""
    require_tflm(operator, numerics)
    operator.require_inputs(_INPUTS)
    source, output = activation_tensor(operator, operator.input(0)), activation_tensor(operator, operator.output)
    features, times, state = operator.input(1), operator.input(2), operator.input(4)
    rank = operator.option("Rank")
    if len(features.shape) != 2 or len(times.shape) != 2 or rank < 1 or features.shape[0] % rank:
        raise operator.malformed(f"its weights {list(features.shape)} and {list(times.shape)} do not fit rank {rank}")
    filters, depth = features.shape
    units, memory = filters // rank, times.shape[1]
    if times.shape[0] != filters or state.size != filters * memory or (source.size, output.size) != (depth, units):
        raise operator.malformed(f"{source.label}, {state.label} and {output.label} do not fit its weights")
    if operator.option("FusedActivationFunction") not in _ACTIVATIONS:
        raise operator.unsupported("it has an activation other than relu", "Use an activation layer of its own")
    weights, _ = weights_tensor(operator, features, filters)
    zeros = np.zeros(filters, np.int64)
    return [
        Layer(
            kernel=f"el_svdf_{state.type}",
            struct="el_svdf",
            inputs=(source,),
            output=output,
            fields={
                "depth": depth,
                "units": units,
                "rank": rank,
                "memory": memory,
                "output_zero_point": output.zero_point,
                "to_state": _factor(source.scale, features.scale, state.scale),
                "to_output": _factor(state.scale, times.scale, output.scale),
            },
            arrays={
                "feature_weights": weights,
                "feature_bias": folded_bias(operator, zeros, weights, source.zero_point),
                f"time_weights_{state.type}": _time_weights(operator, times, state),
                "bias": bias_values(operator, operator.optional_input(3), units).astype(np.int32),
            },
            states=(state,),
            macs=filters * (depth + memory),
        )
    ]


def _time_weights(operator: Operator, times: Tensor, state: Tensor) -> Values:
    if state.type not in {ElementType.INT8, ElementType.INT16} or not state.is_variable or len(state.scales) != 1:
        raise operator.unsupported(
            f"its state, {state.label}, is no variable of int8 or int16 with one scale",
            "Convert with full int8 quantisation",
        )
    if state.zero_point:
        raise operator.unsupported(
            f"its state, {state.label}, has the zero point {state.zero_point}; only 0 is saturated alike by all "
            "versions of TensorFlow Lite for Microcontrollers",
            "Convert with an int16 state",
        )
    if times.type is not state.type or times.data is None or len(times.scales) != 1 or any(times.zero_points):
        raise operator.unsupported(
            f"{times.label} is no constant of {state.type} with one scale and no zero point", "Convert the model again"
        )
    values: Values = np.frombuffer(times.whole_data(), "<i2" if state.type is ElementType.INT16 else np.int8)
    return values


def _factor(a: float, b: float, divisor: float) -> dict[str, object]:
    by = quantise_multiplier(float(np.float32(a) * np.float32(b) / np.float32(divisor)))
    return {"multiplier": by.multiplier, "shift": by.shift}
