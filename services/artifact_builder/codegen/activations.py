"""Lowering of activation functions that are layers of their own."""

import numpy as np

from services.artifact_builder.codegen import tables
from services.artifact_builder.codegen.elementwise import fitted
from services.artifact_builder.codegen.fixed_point import quantise_multiplier
from services.artifact_builder.codegen.graph import Operator
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.quantisation import activation_tensor
from shared.events.lab import Numerics

_MAXIMUM_SOFTMAX_CLASSES = 4096
_SMALLEST_EXPONENTIAL = 1 << 11
"""What is below rounds to nothing in the sum, which has 12 integer bits, and in the result."""


def lower_softmax(operator: Operator) -> Layer:
    """Lower softmax over the last dimension, with the exponentials of gemmlowp."""
    source = activation_tensor(operator, operator.input(0))
    depth = source.shape[-1] if source.shape else 1
    if source.size != operator.output.size:
        raise operator.malformed("input and output differ in size")
    if (operator.output.scale, operator.output.zero_point) != (1 / 256, -128):
        raise operator.malformed("its output should have the scale 1/256 and the zero point -128")
    if depth >= _MAXIMUM_SOFTMAX_CLASSES:
        raise operator.unsupported(f"it has {depth} classes; fewer than 4096 are supported", "Use fewer classes")
    by = tables.softmax_multiplier(source.scale, float(operator.options.get("Beta", 0.0)))
    terms = int(np.count_nonzero(tables.softmax_exponentials(by) >= _SMALLEST_EXPONENTIAL))
    return Layer(
        kernel="el_softmax",
        inputs=(source,),
        output=operator.output,
        fields={
            "rows": source.size // depth,
            "depth": depth,
            "terms": terms,
            "multiplier": by.multiplier,
            "shift": by.shift,
        },
    )


def lower_lookup(operator: Operator, numerics: Numerics) -> Layer:
    """Lower any function of one value."""
    source = activation_tensor(operator, operator.input(0))
    if source.size != operator.output.size:
        raise operator.malformed("input and output differ in size")
    return Layer(
        kernel="el_lookup",
        inputs=(source,),
        output=operator.output,
        fields={"size": source.size},
        arrays={"table": np.array(tables.lookup_table(operator, source, numerics), np.int8)},
    )


def lower_prelu(operator: Operator) -> Lowered:
    """Lower a rectifier whose slope below zero is a tensor."""
    output = activation_tensor(operator, operator.output)
    source = activation_tensor(operator, operator.input(0))
    if source.shape != output.shape:
        raise operator.malformed(f"{source.label} and {output.label} differ in shape")
    slope, expansion = fitted(operator, activation_tensor(operator, operator.input(1)), 1)
    above = quantise_multiplier(source.scale / output.scale)
    below = quantise_multiplier(source.scale * slope.scale / output.scale)
    call = Layer(
        kernel="el_prelu",
        inputs=(source, slope),
        output=output,
        fields={
            "size": output.size,
            "slope_size": slope.size,
            "input_offset": -source.zero_point,
            "slope_offset": -slope.zero_point,
            "output_offset": output.zero_point,
            "multiplier_above": above.multiplier,
            "shift_above": above.shift,
            "multiplier_below": below.multiplier,
            "shift_below": below.shift,
        },
    )
    return [*expansion, call]
