"""Lowering of operators that reduce dimensions to one value."""

import math

from services.artifact_builder.codegen import litert
from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import ElementType, Operator
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.movement import constant_integers
from services.artifact_builder.codegen.quantisation import activation_tensor
from shared.events.lab import Numerics

_KERNELS = {"MEAN": "el_mean", "SUM": "el_mean", "REDUCE_MAX": "el_reduce_max", "REDUCE_MIN": "el_reduce_min"}


def lower_reduction(operator: Operator, numerics: Numerics) -> Layer:
    """Lower mean, sum, largest and smallest value over neighbouring dimensions."""
    source = activation_tensor(operator, operator.input(0))
    rank = len(source.shape)
    axes = sorted({axis % rank if -rank <= axis < rank else -1 for axis in constant_integers(operator, 1, "axes")})
    if not axes or axes[0] < 0:
        raise operator.malformed(f"its axes do not exist in {source.label} of {rank} dimensions")
    # An axis of one element changes nothing, and so joins axes that are otherwise apart.
    between = range(axes[0], axes[-1] + 1)
    if any(axis not in axes and source.shape[axis] != 1 for axis in between):
        raise operator.unsupported(f"it reduces axes {axes}, which are not neighbours", "Reduce neighbouring axes")
    reduced = math.prod(source.shape[axis] for axis in between)
    inner = math.prod(source.shape[axes[-1] + 1 :])
    outer = source.size // (reduced * inner)
    if operator.output.size != outer * inner:
        raise operator.malformed(f"its output should have {outer * inner} elements, not {operator.output.size}")
    if operator.name.startswith("REDUCE") and source.quantisation != operator.output.quantisation:
        raise operator.unsupported("its input and output have different scales", "Convert the model again")
    sizes = {"outer": outer, "reduced": reduced, "inner": inner}
    if numerics is Numerics.LITERT and operator.name in litert.SUMS:
        fields = sizes | litert.sum_or_mean(operator, source, reduced)
        return Layer(kernel="el_litert_mean", inputs=(source,), output=operator.output, fields=fields)
    by = quantise_multiplier(source.scale / operator.output.scale)
    if operator.name == "MEAN":
        by = _divided(by, reduced)
    return Layer(
        kernel=_KERNELS[operator.name],
        struct="el_reduce",
        inputs=(source,),
        output=operator.output,
        fields={
            **sizes,
            "input_zero_point": source.zero_point,
            "output_zero_point": operator.output.zero_point,
            "multiplier": by.multiplier,
            "shift": by.shift,
        },
    )


def _divided(by: Multiplier, count: int) -> Multiplier:
    """Take the division by `count` into a factor, as QuantizedMeanOrSum does."""
    extra = min(count.bit_length() - 1, 32, 31 + by.shift)
    return Multiplier((by.multiplier << extra) // count, by.shift - extra)


def lower_arg_extremum(operator: Operator) -> Lowered:
    """Lower the place of the largest or smallest value along one dimension; the first of equal ones counts."""
    source, output = activation_tensor(operator, operator.input(0)), operator.output
    if output.type is not ElementType.INT32:
        raise operator.unsupported(f"its output is {output.type_name}; int32 is supported", "Ask for int32 indices")
    rank = len(source.shape)
    axes = constant_integers(operator, 1, "axis")
    if len(axes) != 1 or not -rank <= axes[0] < rank:
        raise operator.malformed(f"its axis {list(axes)} does not exist in {source.label}")
    axis = axes[0] % rank
    outer, inner = math.prod(source.shape[:axis]), math.prod(source.shape[axis + 1 :])
    if output.size != outer * inner:
        raise operator.malformed(f"its output should have {outer * inner} elements, not {output.size}")
    return [
        Layer(
            kernel="el_arg_max" if operator.name == "ARG_MAX" else "el_arg_min",
            struct="el_arg_extremum",
            inputs=(source,),
            output=output,
            fields={"outer": outer, "length": source.shape[axis], "inner": inner},
        )
    ]
