"""Which function lowers which operator."""

from collections.abc import Callable, Mapping

from services.artifact_builder.codegen import tables
from services.artifact_builder.codegen.activations import lower_lookup, lower_prelu, lower_softmax
from services.artifact_builder.codegen.conversions import lower_dequantise, lower_quantise
from services.artifact_builder.codegen.convolutions import (
    lower_conv_2d,
    lower_depthwise_conv_2d,
    lower_fully_connected,
    lower_pool_2d,
)
from services.artifact_builder.codegen.elementwise import lower_addition, lower_extremum, lower_multiplication
from services.artifact_builder.codegen.gathering import lower_batch_to_space, lower_gather, lower_space_to_batch
from services.artifact_builder.codegen.graph import Operator
from services.artifact_builder.codegen.layers import Layer, Lowered, View
from services.artifact_builder.codegen.movement import (
    copy,
    lower_broadcast,
    lower_concatenation,
    lower_mirror_pad,
    lower_pack,
    lower_reverse,
    lower_slice,
    lower_space_to_depth,
    lower_split,
    lower_strided_slice,
    lower_tile,
    lower_transpose,
    lower_unpack,
)
from services.artifact_builder.codegen.products import lower_batch_matmul
from services.artifact_builder.codegen.quantisation import activation_tensor
from services.artifact_builder.codegen.recurrent import lower_lstm
from services.artifact_builder.codegen.reductions import lower_arg_extremum, lower_reduction
from services.artifact_builder.codegen.resizing import lower_pad, lower_resize_bilinear, lower_resize_nearest
from services.artifact_builder.codegen.state import STATE_OPERATORS
from services.artifact_builder.codegen.svdf import lower_svdf
from services.artifact_builder.codegen.transposed import lower_transpose_conv
from shared.events.lab import Numerics

ALIASES = frozenset({"RESHAPE", "EXPAND_DIMS", "SQUEEZE"})
"""Operators that give the same bytes another shape: they cost nothing. Only their first input matters."""


def lower(operator: Operator, numerics: Numerics) -> Lowered:
    """Return the calls that do what an operator does with the bits of one family, and the tensors that need none.

    Raises:
        UnsupportedModelError: there is no kernel for it.
        MalformedModelError: its tensors do not fit together.
    """
    require_kernel(operator)
    if numerics is Numerics.TFLM and operator.name in _NOT_IN_TFLM:
        raise operator.unsupported(
            f"{numerics}'s bits are asked for, and TFLM has no such operator",
            f"Generate with the numerics {Numerics.LITERT}, or replace the layer",
        )
    if not operator.outputs:
        raise operator.malformed("it makes nothing")
    if operator.name not in _SEVERAL_OUTPUTS and len(operator.outputs) != 1:
        raise operator.malformed(f"it has {len(operator.outputs)} outputs instead of one")
    if operator.name in ALIASES:
        return _lower_alias(operator)
    if operator.name in {*_INT8_LAYERS, *_INT8_LAYERS_BY_FAMILY}:
        activation_tensor(operator, operator.output)
    if operator.name in _INT8_LAYERS_BY_FAMILY:
        return [_INT8_LAYERS_BY_FAMILY[operator.name](operator, numerics)]
    if operator.name in _INT8_LAYERS:
        return [_INT8_LAYERS[operator.name](operator)]
    if operator.name in _BY_FAMILY:
        return _BY_FAMILY[operator.name](operator, numerics)
    return _LOWERINGS[operator.name](operator)


def require_kernel(operator: Operator) -> None:
    """Raise UnsupportedModelError, naming the operator and its tensor, unless there is a kernel or it needs none."""
    if operator.name not in SUPPORTED:
        raise operator.unsupported(
            f"this operator is not supported; supported are {', '.join(sorted(SUPPORTED))}",
            "Replace the layer it comes from, or compute it outside the model",
        )


def _lower_alias(operator: Operator) -> Lowered:
    source, output = operator.input(0), operator.output
    if output.size != source.size:
        raise operator.unsupported(
            f"it makes {output.size} elements of {source.size}", "Convert the model with the batch fixed to 1"
        )
    if output.type is not source.type or output.type.size_bytes == 0:
        raise operator.unsupported(
            f"it makes {output.type_name} of {source.type_name}", "Convert with full int8 quantisation"
        )
    return [View(output, source)] if source.data is None else [copy(operator, source, output)]


_INT8_LAYERS_BY_FAMILY: Mapping[str, Callable[[Operator, Numerics], Layer]] = {
    "CONV_2D": lower_conv_2d,
    "DEPTHWISE_CONV_2D": lower_depthwise_conv_2d,
    "TRANSPOSE_CONV": lower_transpose_conv,
    "FULLY_CONNECTED": lower_fully_connected,
    "AVERAGE_POOL_2D": lower_pool_2d,
    "MAX_POOL_2D": lower_pool_2d,
    "MEAN": lower_reduction,
    "SUM": lower_reduction,
    "REDUCE_MAX": lower_reduction,
    "REDUCE_MIN": lower_reduction,
    **dict.fromkeys(tables.LOOKUPS, lower_lookup),
}
"""Operators on int8 tensors with one output that are one call of a kernel, another one for each family of numerics."""

_INT8_LAYERS: Mapping[str, Callable[[Operator], Layer]] = {
    "SOFTMAX": lower_softmax,
    "PAD": lower_pad,
    "PADV2": lower_pad,
    "RESIZE_NEAREST_NEIGHBOR": lower_resize_nearest,
}
"""Those whose kernel gives the bits of both families. None belongs here that was not compared with both runtimes."""

_BY_FAMILY: Mapping[str, Callable[[Operator, Numerics], Lowered]] = {
    "ADD": lower_addition,
    "SUB": lower_addition,
    "MUL": lower_multiplication,
    "QUANTIZE": lower_quantise,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lower_lstm,
    "RESIZE_BILINEAR": lower_resize_bilinear,
    "SPACE_TO_BATCH_ND": lower_space_to_batch,
    "BATCH_MATMUL": lower_batch_matmul,
    "SVDF": lower_svdf,
}

_LOWERINGS: Mapping[str, Callable[[Operator], Lowered]] = {
    "MAXIMUM": lower_extremum,
    "MINIMUM": lower_extremum,
    "PRELU": lower_prelu,
    "ARG_MAX": lower_arg_extremum,
    "ARG_MIN": lower_arg_extremum,
    "DEQUANTIZE": lower_dequantise,
    "CONCATENATION": lower_concatenation,
    "PACK": lower_pack,
    "UNPACK": lower_unpack,
    "SPLIT": lower_split,
    "SPLIT_V": lower_split,
    "SLICE": lower_slice,
    "STRIDED_SLICE": lower_strided_slice,
    "TRANSPOSE": lower_transpose,
    "REVERSE_V2": lower_reverse,
    "BROADCAST_TO": lower_broadcast,
    "SPACE_TO_DEPTH": lower_space_to_depth,
    "DEPTH_TO_SPACE": lower_space_to_depth,
    "MIRROR_PAD": lower_mirror_pad,
    "TILE": lower_tile,
    "GATHER": lower_gather,
    "BATCH_TO_SPACE_ND": lower_batch_to_space,
}

_NOT_IN_TFLM = frozenset({"RELU_N1_TO_1", "TILE"})
_SEVERAL_OUTPUTS = frozenset({"SPLIT", "SPLIT_V", "UNPACK"})

SUPPORTED = frozenset({*_INT8_LAYERS_BY_FAMILY, *_INT8_LAYERS, *_BY_FAMILY, *_LOWERINGS, *ALIASES, *STATE_OPERATORS})
"""Every operator that may occur in a model."""
