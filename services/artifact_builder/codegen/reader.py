"""Reads a .tflite flatbuffer into a `Graph`, and believes none of it.

The flatbuffer runtime follows whatever offsets it finds, so every length is checked against the file's own before it
is used, and whatever the runtime stumbles over becomes a `MalformedModelError`.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import tflite

from services.artifact_builder.codegen.errors import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.graph import ElementType, Graph, Operator, Tensor

_MAXIMUM_DIMENSIONS = 8
_MAXIMUM_ELEMENTS = 1 << 28
_NAME_CHARACTERS = 200

_Table: TypeAlias = Any
"""A table of the generated flatbuffer classes, which publish no types."""

# What the flatbuffer runtime raises when an offset leads nowhere.
_STUMBLES = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, MemoryError)

_OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": (
        "Conv2DOptions",
        ("Padding", "StrideW", "StrideH", "DilationWFactor", "DilationHFactor", "FusedActivationFunction"),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (
            "Padding",
            "StrideW",
            "StrideH",
            "DilationWFactor",
            "DilationHFactor",
            "DepthMultiplier",
            "FusedActivationFunction",
        ),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat", "KeepNumDims")),
    "AVERAGE_POOL_2D": (
        "Pool2DOptions",
        ("Padding", "StrideW", "StrideH", "FilterWidth", "FilterHeight", "FusedActivationFunction"),
    ),
    "MAX_POOL_2D": (
        "Pool2DOptions",
        ("Padding", "StrideW", "StrideH", "FilterWidth", "FilterHeight", "FusedActivationFunction"),
    ),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
}


_RUN_SUBGRAPHS: Final = frozenset({"CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_WHILE", "STABLEHLO_CASE"})


def read_graph(data: bytes) -> Graph:
    """Return the graph of a .tflite model.

    Raises:
        MalformedModelError: the bytes are not a whole model.
        UnsupportedModelError: the model has several subgraphs, inputs or outputs.
    """
    if len(data) < 8 or data[4:8] != b"TFL3":
        found = data[4:8].hex() or "nothing"
        raise MalformedModelError(f"not a .tflite file: bytes 4 to 8 should be 'TFL3', and are {found}")
    try:
        return _Reader(data).graph()
    except (MalformedModelError, UnsupportedModelError):
        raise
    except _STUMBLES as error:
        raise MalformedModelError(
            f"the .tflite file of {len(data)} bytes is corrupt or truncated ({error}); convert or fetch the model again"
        ) from error


def _control_flow(operators: Sequence[Operator], subgraphs: int) -> UnsupportedModelError:
    """Return what to say of a model with several subgraphs: which operator runs the others."""
    why = f"the model has {subgraphs} subgraphs; one is supported"
    next_step = "Replace the layer that loops or branches (LSTM, GRU, RNN), for example by convolutions over time"
    running = next((operator for operator in operators if operator.name in _RUN_SUBGRAPHS), None)
    return running.unsupported(why, next_step) if running else UnsupportedModelError(f"{why}. {next_step}")


@cache
def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._model = tflite.Model.GetRootAs(data, 0)

    def _count(self, what: str, count: int, item_bytes: int = 4) -> range:
        if not 0 <= count * item_bytes <= len(self._data):
            raise MalformedModelError(
                f"the file says it has {count} {what}, more than its {len(self._data)} bytes hold"
            )
        return range(count)

    def graph(self) -> Graph:
        count = self._model.SubgraphsLength()
        if count == 0:
            raise UnsupportedModelError("the model has no subgraph. Check what was exported")
        subgraph = self._model.Subgraphs(0)
        tensors = [self._tensor(i, subgraph.Tensors(i)) for i in self._count("tensors", subgraph.TensorsLength())]
        operators = tuple(
            self._operator(i, subgraph.Operators(i), tensors)
            for i in self._count("operators", subgraph.OperatorsLength())
        )
        if count != 1:
            raise _control_flow(operators, count)
        return Graph(
            operators=operators,
            input=self._only(
                "input", [subgraph.Inputs(i) for i in self._count("inputs", subgraph.InputsLength())], tensors
            ),
            output=self._only(
                "output", [subgraph.Outputs(i) for i in self._count("outputs", subgraph.OutputsLength())], tensors
            ),
        )

    @staticmethod
    def _only(what: str, indices: list[int], tensors: list[Tensor]) -> Tensor:
        if len(indices) != 1:
            raise UnsupportedModelError(
                f"the model has {len(indices)} {what}s; exactly one is supported. Join them inside the model"
            )
        return _at(tensors, indices[0], f"the model's {what}")

    def _tensor(self, index: int, table: _Table) -> Tensor:
        name = (table.Name() or b"").decode("utf-8", "replace")[:_NAME_CHARACTERS]
        self._count("dimensions", table.ShapeLength())
        if table.ShapeLength() > _MAXIMUM_DIMENSIONS:
            raise MalformedModelError(f"tensor {index} ({name}) has {table.ShapeLength()} dimensions")
        shape = tuple(int(table.Shape(i)) for i in range(table.ShapeLength()))
        if any(size < 1 for size in shape) or math.prod(shape) > _MAXIMUM_ELEMENTS:
            raise MalformedModelError(f"tensor {index} ({name}) has the impossible shape {list(shape)}")
        type_name = _names(tflite.TensorType).get(table.Type(), f"type {table.Type()}").lower()
        known = {"int8": ElementType.INT8, "int32": ElementType.INT32}
        scales, zero_points = self._quantisation(f"tensor {index} ({name})", table.Quantization())
        return Tensor(
            index=index,
            name=name,
            shape=shape,
            type=known.get(type_name, ElementType.OTHER),
            type_name=type_name,
            scales=scales,
            zero_points=zero_points,
            data=self._buffer(index, name, table.Buffer()),
        )

    def _quantisation(self, label: str, table: _Table) -> tuple[tuple[float, ...], tuple[int, ...]]:
        if table is None:
            return (), ()
        scales = tuple(float(table.Scale(i)) for i in self._count("scales", table.ScaleLength()))
        zeros = tuple(int(table.ZeroPoint(i)) for i in self._count("zero points", table.ZeroPointLength(), 8))
        if any(not math.isfinite(scale) or scale <= 0 for scale in scales):
            raise MalformedModelError(f"{label} has a scale that is not a positive number")
        if len(scales) != len(zeros):
            raise MalformedModelError(f"{label} has {len(scales)} scales and {len(zeros)} zero points")
        return scales, zeros

    def _buffer(self, index: int, name: str, at: int) -> bytes | None:
        if not 0 <= at < self._model.BuffersLength():
            raise MalformedModelError(f"tensor {index} ({name}) names buffer {at} of {self._model.BuffersLength()}")
        buffer = self._model.Buffers(at)
        if buffer.Offset() > 1:
            raise UnsupportedModelError(
                f"tensor {index} ({name}) keeps its data behind the flatbuffer, as models above 2 GB do"
            )
        length = buffer.DataLength()
        if length == 0:
            return None
        self._count("bytes of weights", length, 1)
        return bytes(buffer.DataAsNumpy())

    def _operator(self, index: int, table: _Table, tensors: list[Tensor]) -> Operator:
        code_index = table.OpcodeIndex()
        if not 0 <= code_index < self._model.OperatorCodesLength():
            raise MalformedModelError(f"operator {index} has code {code_index} of {self._model.OperatorCodesLength()}")
        code = self._model.OperatorCodes(code_index)
        # Old files have the small field, new ones the large one; the larger value is the true one.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names(tflite.BuiltinOperator).get(number, f"operator code {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {(code.CustomCode() or b'').decode('utf-8', 'replace')[:_NAME_CHARACTERS]!r}"
        label = f"operator {index}, {name}"
        inputs = [table.Inputs(i) for i in self._count("operator inputs", table.InputsLength())]
        outputs = [table.Outputs(i) for i in self._count("operator outputs", table.OutputsLength())]
        return Operator(
            index=index,
            name=name,
            version=code.Version(),
            inputs=tuple(None if i == -1 else _at(tensors, i, label) for i in inputs),
            outputs=tuple(_at(tensors, i, label) for i in outputs),
            options=self._options(name, table),
        )

    @staticmethod
    def _options(name: str, table: _Table) -> dict[str, float]:
        if name not in _OPTIONS:
            return {}
        options_name, fields = _OPTIONS[name]
        options = getattr(tflite, options_name)()
        found = table.BuiltinOptions()
        if found is None or table.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, options_name):
            return {}
        options.Init(found.Bytes, found.Pos)
        read: Callable[[str], float] = lambda field: getattr(options, field)()  # noqa: E731 - three words, used once
        return {field: read(field) for field in fields}


def _at(tensors: list[Tensor], index: int, label: str) -> Tensor:
    if not 0 <= index < len(tensors):
        raise MalformedModelError(f"{label} names tensor {index} of {len(tensors)}")
    return tensors[index]
