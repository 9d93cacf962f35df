"""Lowering of UNIDIRECTIONAL_SEQUENCE_LSTM with int8 activations and an int16 cell.

Follows TFLM's lstm_eval.h and lstm_eval_common.cc: each gate is the saturated sum of two int16 products, its activation
interpolates in a table of 256 sigmoids, and the hidden state and the cell stay from one inference to the next.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered, Values
from services.artifact_builder.codegen.quantisation import (
    activation_tensor,
    bias_values,
    float_product_multiplier,
    folded_bias,
    require_tflm,
    weights_tensor,
)
from shared.events.lab import Numerics

_INPUTS: Final = 24
_GATES: Final = ("input_gate", "forget_gate", "cell_gate", "output_gate")
_FIRST_INPUT_WEIGHTS, _FIRST_RECURRENT_WEIGHTS, _FIRST_BIAS = 1, 5, 12
_HIDDEN_STATE, _CELL_STATE = 18, 19
_UNSUPPORTED_INPUTS: Final = {"peephole": (9, 10, 11), "projection": (16, 17), "layer normalisation": (20, 21, 22, 23)}
_TANH: Final = 4
_GATE_SCALE: Final = 2.0**-12
_ACTIVATED_SCALE: Final = 2.0**-15
_TABLE_STEPS_PER_UNIT: Final = 24
# TensorFlow Lite fitted its table to the interpolation between entries: these are one more than the rounded function.
_RAISED: Final = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46, 49),
    *(50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)


def sigmoid_table() -> NDArray[np.uint16]:
    """Return sigmoid(i / 24) with 16 fractional bits, for i from 0 to 255."""
    values = [round(65536 / (1 + math.exp(-i / _TABLE_STEPS_PER_UNIT))) + (i in _RAISED) for i in range(256)]
    return np.array(values, np.uint16)


def lower_lstm(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower an LSTM over a sequence. Its states are variables, which a reset sets to their zero points."""
    require_tflm(operator, numerics, "unroll the LSTM")
    operator.require_inputs(_INPUTS)
    for what, positions in _UNSUPPORTED_INPUTS.items():
        if any(operator.inputs[position] is not None for position in positions):
            raise operator.unsupported(f"it has {what}", "Use a plain LSTM layer")
    source, output = activation_tensor(operator, operator.input(0)), activation_tensor(operator, operator.output)
    hidden, cell = activation_tensor(operator, operator.input(_HIDDEN_STATE)), operator.input(_CELL_STATE)
    steps, depth, units = _sizes(operator, source, hidden, output)
    _require_cell(operator, cell, units)
    gates: dict[str, object] = {}
    arrays: dict[str, Values] = {"sigmoid": sigmoid_table()}
    for number, name in enumerate(_GATES):
        fields, constants = _gate(operator, number, source, hidden, (depth, units))
        gates[name] = fields
        arrays.update({f"{name}.{member}": values for member, values in constants.items()})
    clip = float(operator.options.get("CellClip", 0.0))
    return [
        Layer(
            kernel="el_lstm",
            inputs=(source,),
            output=output,
            fields={
                "steps": steps,
                "depth": depth,
                "units": units,
                "forget_cell": _factor(_ACTIVATED_SCALE * cell.scale / cell.scale),
                "input_cell": _factor(_ACTIVATED_SCALE * _ACTIVATED_SCALE / cell.scale),
                "hidden": _factor(_ACTIVATED_SCALE * _ACTIVATED_SCALE / hidden.scale),
                "hidden_zero_point": hidden.zero_point,
                # The exponent of what brings the cell to 12 fractional bits, and tanh takes.
                "cell_exponent": 12 + round(math.log2(cell.scale)),
                "cell_clip": min(int(clip / cell.scale), 32767) if clip > 0 else 0,
                **gates,
            },
            arrays=arrays,
            states=(hidden, cell),
            macs=steps * 4 * units * (depth + units),
        )
    ]


def _sizes(operator: Operator, source: Tensor, hidden: Tensor, output: Tensor) -> tuple[int, int, int]:
    """Return the number of steps, inputs and units."""
    if len(source.shape) != 3 or len(output.shape) != 3 or not hidden.shape:
        raise operator.malformed("its input and output should have three dimensions")
    batch, steps = source.shape[:2] if not operator.option("TimeMajor") else source.shape[1::-1]
    if batch != 1:
        raise operator.unsupported(f"it has a batch of {batch}", "Convert the model with the batch fixed to 1")
    depth, units = source.shape[2], hidden.shape[-1]
    if hidden.size != units or output.size != steps * units:
        raise operator.malformed(f"{hidden.label} and {output.label} do not fit {source.label}")
    if operator.option("FusedActivationFunction") != _TANH:
        raise operator.unsupported("its cell has another activation than tanh", "Use an LSTM layer with tanh")
    if not hidden.is_variable:
        raise operator.malformed(f"{hidden.label} is no variable")
    if hidden.quantisation != output.quantisation:
        raise operator.unsupported(f"{hidden.label} and {output.label} differ in scale", "Convert the model again")
    return steps, depth, units


def _require_cell(operator: Operator, cell: Tensor, units: int) -> None:
    if cell.type is not ElementType.INT16 or not cell.is_variable or cell.size != units:
        raise operator.unsupported(
            f"its cell, {cell.label}, is no int16 variable of {units} values", "Convert with int8 activations"
        )
    if len(cell.scales) != 1 or cell.zero_point or not math.log2(cell.scale).is_integer():
        raise operator.malformed(f"{cell.label} should have a power of two as its scale, and no zero point")
    if not -24 <= math.log2(cell.scale) <= 0:
        raise operator.unsupported(f"{cell.label} has the scale {cell.scale}", "2^-24 to 1 are supported")


def _gate(
    operator: Operator, number: int, source: Tensor, hidden: Tensor, sizes: tuple[int, int]
) -> tuple[dict[str, object], dict[str, Values]]:
    depth, units = sizes
    fields: dict[str, object] = {}
    arrays: dict[str, Values] = {}
    parts = (
        ("input", source, _FIRST_INPUT_WEIGHTS, depth, operator.optional_input(_FIRST_BIAS + number)),
        ("recurrent", hidden, _FIRST_RECURRENT_WEIGHTS, units, None),
    )
    for name, read, first, columns, bias in parts:
        filters = operator.input(first + number)
        if filters.shape != (units, columns) or len(filters.scales) != 1:
            raise operator.malformed(
                f"{filters.label} of {list(filters.shape)} should be {[units, columns]}, of one scale"
            )
        weights, _ = weights_tensor(operator, filters, units)
        gate_scale = _scaled_like_a_gate(read)
        fields[name] = _named(float_product_multiplier(filters.scale, read, gate_scale))
        arrays[f"{name}_weights"] = weights
        arrays[f"{name}_bias"] = folded_bias(operator, bias_values(operator, bias, units), weights, read.zero_point)
    return fields, arrays


def _scaled_like_a_gate(tensor: Tensor) -> Tensor:
    return replace(tensor, scales=(_GATE_SCALE,))


def _factor(real: float) -> dict[str, object]:
    return _named(quantise_multiplier(real))


def _named(by: Multiplier) -> dict[str, object]:
    return {"multiplier": by.multiplier, "shift": by.shift}
