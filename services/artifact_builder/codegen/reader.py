"""Reads a .tflite file into a `Graph`, and believes none of it."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from services.artifact_builder.codegen import schema
from services.artifact_builder.codegen.errors import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.flatbuffer import Flatbuffer, Table
from services.artifact_builder.codegen.graph import ElementType, Graph, Operator, Subgraph, Tensor
from services.artifact_builder.codegen.schema import (
    BufferSlot,
    ModelSlot,
    OperatorCodeSlot,
    OperatorSlot,
    QuantizationSlot,
    SubGraphSlot,
    TensorSlot,
)

_MAXIMUM_DIMENSIONS: Final = 8
_MAXIMUM_ELEMENTS: Final = 1 << 28
MAXIMUM_OPERATORS: Final = 4096
"""An LSTM unrolled over 200 steps has 3,000."""
_MAXIMUM_TENSORS: Final = 1 << 16
_MAXIMUM_SUBGRAPHS: Final = 64
_SMALLEST_SCALE: Final = 2.0**-126
"""The smallest float32 with all its bits."""
_LARGEST_SCALE: Final = 2.0**32
_NAME_CHARACTERS: Final = 200
_BEHIND_THE_FLATBUFFER: Final = 1
_ABSENT: Final = -1

_RUN_SUBGRAPHS: Final = frozenset({"CALL", "IF", "WHILE", "STABLEHLO_WHILE", "STABLEHLO_CASE"})


def read_graph(data: bytes) -> Graph:
    """Return the graph of a .tflite model.

    Raises:
        MalformedModelError: the bytes are not a whole model.
        UnsupportedModelError: the model loops or branches, or is larger than any board.
    """
    if len(data) < 8 or data[4:8] != b"TFL3":
        found = data[4:8].hex() or "nothing"
        raise MalformedModelError(f"not a .tflite file: bytes 4 to 8 should be 'TFL3', and are {found}")
    return _Reader(data).graph()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._model = Flatbuffer(data).root()
        self._buffers = self._model.tables(ModelSlot.BUFFERS)
        self._codes = [_OperatorCode(code) for code in self._model.tables(ModelSlot.OPERATOR_CODES)]
        self._data: dict[int, bytes | None] = {}

    def graph(self) -> Graph:
        count = self._model.count(ModelSlot.SUBGRAPHS)
        if count == 0:
            raise UnsupportedModelError("the model has no subgraph. Check what was exported")
        if count > _MAXIMUM_SUBGRAPHS:
            raise UnsupportedModelError(
                f"the model has {count} subgraphs; up to {_MAXIMUM_SUBGRAPHS} are read. Check what was exported"
            )
        main, *others = (self._subgraph(table) for table in self._model.tables(ModelSlot.SUBGRAPHS))
        for operator in main.operators:
            if operator.name in _RUN_SUBGRAPHS:
                raise operator.unsupported(
                    f"it runs one of the model's {count} subgraphs",
                    "Replace the layer that loops or branches: give an LSTM, GRU or RNN unroll=True, or use "
                    "convolutions over time",
                )
        return Graph(main, tuple(others))

    def _subgraph(self, table: Table) -> Subgraph:
        count = table.count(SubGraphSlot.OPERATORS)
        if count > MAXIMUM_OPERATORS:
            raise UnsupportedModelError(
                f"the model has {count} operators; up to {MAXIMUM_OPERATORS} are supported. Unroll over fewer steps"
            )
        count = table.count(SubGraphSlot.TENSORS)
        if count > _MAXIMUM_TENSORS:
            raise UnsupportedModelError(
                f"the model has {count} tensors; up to {_MAXIMUM_TENSORS} are supported. Make the model smaller"
            )
        tensors = [self._tensor(number, found) for number, found in enumerate(table.tables(SubGraphSlot.TENSORS))]
        return Subgraph(
            operators=tuple(
                self._operator(number, found, tensors)
                for number, found in enumerate(table.tables(SubGraphSlot.OPERATORS))
            ),
            inputs=_all_at(tensors, table.integers(SubGraphSlot.INPUTS), "the model's input"),
            outputs=_all_at(tensors, table.integers(SubGraphSlot.OUTPUTS), "the model's output"),
        )

    def _tensor(self, index: int, table: Table) -> Tensor:
        name = table.text(TensorSlot.NAME, _NAME_CHARACTERS)
        label = f"tensor {index} ({name})"
        if table.count(TensorSlot.SHAPE) > _MAXIMUM_DIMENSIONS:
            raise MalformedModelError(f"{label} has {table.count(TensorSlot.SHAPE)} dimensions")
        shape = table.integers(TensorSlot.SHAPE)
        if shape and (min(shape) < 0 or math.prod(shape) > _MAXIMUM_ELEMENTS):
            raise MalformedModelError(f"{label} has the impossible shape {list(shape)}")
        number = table.integer(TensorSlot.TYPE, "b")
        type_name = schema.tensor_types().get(number, f"type {number}")
        scales, zero_points = _quantisation(label, table.table(TensorSlot.QUANTIZATION))
        if table.table(TensorSlot.SPARSITY) is not None:
            raise UnsupportedModelError(f"{label} is stored sparsely. Convert without sparsity")
        return Tensor(
            index=index,
            name=name,
            shape=shape,
            type=_ELEMENT_TYPES.get(type_name, ElementType.OTHER),
            type_name=type_name,
            scales=scales,
            zero_points=zero_points,
            data=self._buffer(label, table.integer(TensorSlot.BUFFER, "I")),
            is_variable=bool(table.integer(TensorSlot.IS_VARIABLE, "b")),
        )

    def _buffer(self, label: str, at: int) -> bytes | None:
        if at >= len(self._buffers):
            raise MalformedModelError(f"{label} names buffer {at} of {len(self._buffers)}")
        if at not in self._data:
            buffer = self._buffers[at]
            if buffer.integer(BufferSlot.OFFSET, "Q") > _BEHIND_THE_FLATBUFFER:
                raise UnsupportedModelError(
                    f"{label} keeps its data behind the flatbuffer, as models above 2 GB do. Make the model smaller"
                )
            self._data[at] = bytes(buffer.raw(BufferSlot.DATA)) or None
        return self._data[at]

    def _operator(self, index: int, table: Table, tensors: list[Tensor]) -> Operator:
        number = table.integer(OperatorSlot.OPCODE_INDEX, "I")
        if number >= len(self._codes):
            raise MalformedModelError(f"operator {index} has code {number} of {len(self._codes)}")
        code = self._codes[number]
        label = f"operator {index}, {code.name}"
        options, texts = _options(code.name, table)
        return Operator(
            index=index,
            name=code.name,
            version=code.version,
            inputs=tuple(None if i == _ABSENT else _at(tensors, i, label) for i in table.integers(OperatorSlot.INPUTS)),
            outputs=_all_at(tensors, table.integers(OperatorSlot.OUTPUTS), label),
            options=options,
            texts=texts,
            intermediates=tuple(_at(tensors, i, label, empty=True) for i in table.integers(OperatorSlot.INTERMEDIATES)),
        )


class _OperatorCode:
    """Which operator a number of the file means."""

    __slots__ = ("name", "version")

    def __init__(self, table: Table) -> None:
        # Old files have the small field, new ones the large one; the larger value is the true one.
        number = max(
            table.integer(OperatorCodeSlot.BUILTIN_CODE), table.integer(OperatorCodeSlot.DEPRECATED_BUILTIN_CODE, "b")
        )
        name = schema.operator_names().get(number, f"operator code {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {table.text(OperatorCodeSlot.CUSTOM_CODE, _NAME_CHARACTERS)!r}"
        self.name = name
        self.version = table.integer(OperatorCodeSlot.VERSION, default=1)


_ELEMENT_TYPES: Final = {kind.value: kind for kind in ElementType}


def _quantisation(label: str, table: Table | None) -> tuple[tuple[float, ...], tuple[int, ...]]:
    if table is None:
        return (), ()
    scales = table.array(QuantizationSlot.SCALE, "<f4")
    zeros = table.integers(QuantizationSlot.ZERO_POINT, "<i8")
    if not np.all((scales >= _SMALLEST_SCALE) & (scales <= _LARGEST_SCALE)):
        raise MalformedModelError(
            f"{label} has a scale that is no number between {_SMALLEST_SCALE:.2g} and {_LARGEST_SCALE:.2g}; quantise "
            "the model again"
        )
    if len(scales) != len(zeros):
        raise MalformedModelError(f"{label} has {len(scales)} scales and {len(zeros)} zero points")
    return tuple(scales.tolist()), zeros


def _options(name: str, operator: Table) -> tuple[dict[str, float], dict[str, str]]:
    known = schema.OPTIONS.get(name)
    if known is None or operator.integer(OperatorSlot.OPTIONS_TYPE, "B") != schema.options_number(known.table):
        return {}, {}
    table = operator.table(OperatorSlot.OPTIONS)
    if table is None:
        return {}, {}
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    for field, option in known.fields.items():
        if option.kind == "s":
            texts[field] = table.text(option.slot, _NAME_CHARACTERS)
        elif option.kind == "f":
            numbers[field] = table.real(option.slot)
            if not math.isfinite(numbers[field]):
                raise MalformedModelError(
                    f"an operator {name} has the option {field} {numbers[field]}; a number is needed"
                )
        else:
            numbers[field] = table.integer(option.slot, option.kind)
    return numbers, texts


def _all_at(tensors: Sequence[Tensor], indices: Sequence[int], label: str) -> tuple[Tensor, ...]:
    return tuple(_at(tensors, index, label) for index in indices)


def _at(tensors: Sequence[Tensor], index: int, label: str, *, empty: bool = False) -> Tensor:
    if not 0 <= index < len(tensors):
        raise MalformedModelError(f"{label} names tensor {index} of {len(tensors)}")
    tensor = tensors[index]
    if tensor.size == 0 and not empty:
        raise MalformedModelError(f"{label} has {tensor.label} of the impossible shape {list(tensor.shape)}")
    return tensor
