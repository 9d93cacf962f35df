"""Lowering of BATCH_MATMUL: products of matrices that need not be weights, as in attention."""

from services.artifact_builder.codegen.graph import Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.movement import Region, repeated
from services.artifact_builder.codegen.quantisation import (
    activation_tensor,
    float_product_multiplier,
    require_tflm,
)
from shared.events.lab import Numerics

_RANK = 5
"""Three batch dimensions, rows and columns."""


def lower_batch_matmul(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower a product over the last two dimensions; the others broadcast."""
    require_tflm(operator, numerics, "multiply by constant weights")
    output = activation_tensor(operator, operator.output)
    a, b = (activation_tensor(operator, operator.input(position)) for position in (0, 1))
    if not 2 <= min(len(a.shape), len(b.shape)) <= max(len(a.shape), len(b.shape), len(output.shape)) <= _RANK:
        raise operator.unsupported("it has tensors of other than two to five dimensions", "Reshape before it")
    left, right = _flipped(operator, a, "AdjX"), _flipped(operator, b, "AdjY")
    (rows, depth), (depth_of_b, columns) = left.extents[-2:], right.extents[-2:]
    if depth != depth_of_b or output.shape[-2:] != (rows, columns):
        raise operator.malformed(f"{a.label} and {b.label} do not multiply to {output.label}")
    batch = output.shape[:-2]
    by = float_product_multiplier(b.scale, a, output)
    call = Layer(
        kernel="el_batch_matmul",
        inputs=(a, b),
        output=output,
        fields={
            "batches": [*[1] * (_RANK - 2 - len(batch)), *batch],
            "rows": rows,
            "depth": depth,
            "columns": columns,
            "a": _matrix(operator, a, batch, left.strides[-2:]),
            "b": _matrix(operator, b, batch, right.strides[-1:] + right.strides[-2:-1]),
            "output_zero_point": output.zero_point,
            "multiplier": by.multiplier,
            "shift": by.shift,
        },
        macs=output.size * depth,
    )
    return [call]


def _flipped(operator: Operator, tensor: Tensor, option: str) -> Region:
    """Return how the last two dimensions are read, transposed where the operator says so."""
    region = Region.whole(tensor.shape[-2:], 1)
    return region.permuted((1, 0)) if operator.option(option) else region


def _matrix(operator: Operator, tensor: Tensor, batch: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, object]:
    whole = (*batch, *tensor.shape[-2:])
    outer = repeated(operator, tensor, whole).strides[: len(batch)]
    return {
        "zero_point": tensor.zero_point,
        "outer_stride": strides[0],
        "depth_stride": strides[1],
        "batch_stride": [*[0] * (_RANK - 2 - len(batch)), *outer],
    }
