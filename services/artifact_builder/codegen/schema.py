"""The parts of the .tflite schema that the generator reads: places of fields in tables, and options of operators.

Slots are counted from 0 in the order of schema.fbs, version 3; a test compares them with the published schema.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

import tflite


class ModelSlot:
    """Fields of Model."""

    OPERATOR_CODES: Final = 1
    SUBGRAPHS: Final = 2
    BUFFERS: Final = 4


class OperatorCodeSlot:
    """Fields of OperatorCode."""

    DEPRECATED_BUILTIN_CODE: Final = 0
    CUSTOM_CODE: Final = 1
    VERSION: Final = 2
    BUILTIN_CODE: Final = 3


class SubGraphSlot:
    """Fields of SubGraph."""

    TENSORS: Final = 0
    INPUTS: Final = 1
    OUTPUTS: Final = 2
    OPERATORS: Final = 3


class TensorSlot:
    """Fields of Tensor."""

    SHAPE: Final = 0
    TYPE: Final = 1
    BUFFER: Final = 2
    NAME: Final = 3
    QUANTIZATION: Final = 4
    IS_VARIABLE: Final = 5
    SPARSITY: Final = 6


class QuantizationSlot:
    """Fields of QuantizationParameters."""

    SCALE: Final = 2
    ZERO_POINT: Final = 3
    DETAILS_TYPE: Final = 4


class BufferSlot:
    """Fields of Buffer."""

    DATA: Final = 0
    OFFSET: Final = 1


class OperatorSlot:
    """Fields of Operator."""

    OPCODE_INDEX: Final = 0
    INPUTS: Final = 1
    OUTPUTS: Final = 2
    OPTIONS_TYPE: Final = 3
    OPTIONS: Final = 4
    INTERMEDIATES: Final = 8


class Option(NamedTuple):
    """One option: its slot, its type as a code of the module struct, or ``s`` for a string."""

    slot: int
    kind: str


class Options(NamedTuple):
    """The options table of an operator."""

    table: str
    fields: Mapping[str, Option]


def _options(table: str, **fields: tuple[int, str]) -> Options:
    return Options(table, {name: Option(*where) for name, where in fields.items()})


_REDUCER: Final = _options("ReducerOptions", KeepDims=(0, "b"))
_POOL: Final = _options(
    "Pool2DOptions",
    Padding=(0, "b"),
    StrideW=(1, "i"),
    StrideH=(2, "i"),
    FilterWidth=(3, "i"),
    FilterHeight=(4, "i"),
    FusedActivationFunction=(5, "b"),
)

OPTIONS: Final[Mapping[str, Options]] = {
    "CONV_2D": _options(
        "Conv2DOptions",
        Padding=(0, "b"),
        StrideW=(1, "i"),
        StrideH=(2, "i"),
        FusedActivationFunction=(3, "b"),
        DilationWFactor=(4, "i"),
        DilationHFactor=(5, "i"),
    ),
    "DEPTHWISE_CONV_2D": _options(
        "DepthwiseConv2DOptions",
        Padding=(0, "b"),
        StrideW=(1, "i"),
        StrideH=(2, "i"),
        DepthMultiplier=(3, "i"),
        FusedActivationFunction=(4, "b"),
        DilationWFactor=(5, "i"),
        DilationHFactor=(6, "i"),
    ),
    "TRANSPOSE_CONV": _options(
        "TransposeConvOptions", Padding=(0, "b"), StrideW=(1, "i"), StrideH=(2, "i"), FusedActivationFunction=(3, "b")
    ),
    "FULLY_CONNECTED": _options(
        "FullyConnectedOptions", FusedActivationFunction=(0, "b"), WeightsFormat=(1, "b"), KeepNumDims=(2, "b")
    ),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "ADD": _options("AddOptions", FusedActivationFunction=(0, "b")),
    "SUB": _options("SubOptions", FusedActivationFunction=(0, "b")),
    "MUL": _options("MulOptions", FusedActivationFunction=(0, "b")),
    "SOFTMAX": _options("SoftmaxOptions", Beta=(0, "f")),
    "LEAKY_RELU": _options("LeakyReluOptions", Alpha=(0, "f")),
    "CONCATENATION": _options("ConcatenationOptions", Axis=(0, "i"), FusedActivationFunction=(1, "b")),
    "PACK": _options("PackOptions", ValuesCount=(0, "i"), Axis=(1, "i")),
    "UNPACK": _options("UnpackOptions", Num=(0, "i"), Axis=(1, "i")),
    "STRIDED_SLICE": _options(
        "StridedSliceOptions",
        BeginMask=(0, "i"),
        EndMask=(1, "i"),
        EllipsisMask=(2, "i"),
        NewAxisMask=(3, "i"),
        ShrinkAxisMask=(4, "i"),
        Offset=(5, "b"),
    ),
    "MEAN": _REDUCER,
    "SUM": _REDUCER,
    "REDUCE_MAX": _REDUCER,
    "REDUCE_MIN": _REDUCER,
    "MIRROR_PAD": _options("MirrorPadOptions", Mode=(0, "b")),
    "RESIZE_NEAREST_NEIGHBOR": _options(
        "ResizeNearestNeighborOptions", AlignCorners=(0, "b"), HalfPixelCenters=(1, "b")
    ),
    "RESIZE_BILINEAR": _options("ResizeBilinearOptions", AlignCorners=(2, "b"), HalfPixelCenters=(3, "b")),
    "GATHER": _options("GatherOptions", Axis=(0, "i"), BatchDims=(1, "i")),
    "BATCH_MATMUL": _options("BatchMatMulOptions", AdjX=(0, "b"), AdjY=(1, "b")),
    "SVDF": _options("SVDFOptions", Rank=(0, "i"), FusedActivationFunction=(1, "b")),
    "SPACE_TO_DEPTH": _options("SpaceToDepthOptions", BlockSize=(0, "i")),
    "DEPTH_TO_SPACE": _options("DepthToSpaceOptions", BlockSize=(0, "i")),
    "CALL_ONCE": _options("CallOnceOptions", InitSubgraphIndex=(0, "i")),
    "VAR_HANDLE": _options("VarHandleOptions", Container=(0, "s"), SharedName=(1, "s")),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _options(
        "UnidirectionalSequenceLSTMOptions",
        FusedActivationFunction=(0, "b"),
        CellClip=(1, "f"),
        ProjClip=(2, "f"),
        TimeMajor=(3, "b"),
    ),
}


@cache
def operator_names() -> Mapping[int, str]:
    """Return the names of operators by their number."""
    return _values(tflite.BuiltinOperator)


@cache
def tensor_types() -> Mapping[int, str]:
    """Return the names of element types by their number, in small letters."""
    return {number: name.lower() for number, name in _values(tflite.TensorType).items()}


@cache
def options_number(table: str) -> int:
    """Return the number by which an operator says which options it has."""
    number: int = getattr(tflite.BuiltinOptions, table)
    return number


def _values(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
