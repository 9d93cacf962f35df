"""The model as the generator sees it: typed, checked, without flatbuffers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.errors import MalformedModelError, UnsupportedModelError


class ElementType(StrEnum):
    """Element types that mean something to the generator; `OTHER` is any other one."""

    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    INT32 = "int32"
    FLOAT32 = "float32"
    RESOURCE = "resource"
    OTHER = "other"

    @property
    def size_bytes(self) -> int:
        """Bytes of one element; 0 where elements have no place in memory."""
        return _ELEMENT_BYTES.get(self, 0)

    @property
    def c_name(self) -> str:
        """The type in C."""
        return "float" if self is ElementType.FLOAT32 else f"{self}_t"


_ELEMENT_BYTES: Mapping[ElementType, int] = {
    ElementType.INT8: 1,
    ElementType.UINT8: 1,
    ElementType.INT16: 2,
    ElementType.INT32: 4,
    ElementType.FLOAT32: 4,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. `data` is there for constants only."""

    index: int
    name: str
    shape: tuple[int, ...]
    type: ElementType
    type_name: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    data: bytes | None
    is_variable: bool = False
    """It keeps its value from one inference to the next."""

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return self.size * self.type.size_bytes

    @property
    def quantisation(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Scales and zero points, to be compared."""
        return self.scales, self.zero_points

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"tensor {self.index} ({self.name or 'without a name'})"

    @property
    def scale(self) -> float:
        """The scale of a tensor that has one for all of it."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor that has one for all of it."""
        return self.zero_points[0]

    def int8_values(self) -> NDArray[np.int8]:
        """Return a constant's values in their shape."""
        return np.frombuffer(self._whole(self.size), np.int8).reshape(self.shape)

    def int32_values(self) -> NDArray[np.int32]:
        """Return a constant's values in their shape."""
        return np.frombuffer(self._whole(4 * self.size), "<i4").reshape(self.shape).astype(np.int32)

    def whole_data(self) -> bytes:
        """Return a constant's bytes, which must be as many as its shape says."""
        return self._whole(self.size_bytes)

    def _whole(self, size_bytes: int) -> bytes:
        if self.data is None or len(self.data) != size_bytes:
            found = 0 if self.data is None else len(self.data)
            raise MalformedModelError(
                f"{self.label} of shape {list(self.shape)} should hold {size_bytes} bytes, and holds {found}"
            )
        return self.data


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. An absent optional input is None."""

    index: int
    name: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=dict)
    """The options that are strings."""
    intermediates: tuple[Tensor, ...] = ()
    """Tensors that only say how an operator quantises inside."""

    @property
    def label(self) -> str:
        """How messages call it."""
        made = self.outputs[0].label if self.outputs else "nothing"
        return f"operator {self.index}, {self.name} version {self.version}, which makes {made}"

    @property
    def output(self) -> Tensor:
        """The only output."""
        return self.outputs[0]

    def input(self, position: int) -> Tensor:
        """Return an input that must be there."""
        tensor = self.optional_input(position)
        if tensor is None:
            raise MalformedModelError(f"{self.label} lacks its input {position}")
        return tensor

    def optional_input(self, position: int) -> Tensor | None:
        """Return an input that may be absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def option(self, name: str) -> int:
        """Return a whole-number option; those the file leaves out are 0."""
        return int(self.options.get(name, 0))

    def require_inputs(self, least: int, most: int | None = None) -> None:
        """Check how many inputs there are."""
        most = most or least
        if not least <= len(self.inputs) <= most:
            allowed = f"{least}" if least == most else f"{least} to {most}"
            raise self.malformed(f"it has {len(self.inputs)} inputs instead of {allowed}")

    def unsupported(self, why: str, next_step: str) -> UnsupportedModelError:
        """Return the error that says what this operator needs and the kernels lack."""
        return UnsupportedModelError(f"{self.label}: {why}. {next_step}")

    def malformed(self, why: str) -> MalformedModelError:
        """Return the error that says what does not fit together in this operator."""
        return MalformedModelError(f"{self.label}: {why}; convert the model again")


@dataclass(frozen=True, slots=True)
class Subgraph:
    """Operators in the order in which they run."""

    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A model: the subgraph that is an inference, and others that set state once before the first."""

    main: Subgraph
    others: tuple[Subgraph, ...] = ()

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What an inference does."""
        return self.main.operators

    @property
    def input(self) -> Tensor:
        """The only input.

        Raises:
            UnsupportedModelError: there are several, or none.
        """
        return _only("input", self.main.inputs)

    @property
    def output(self) -> Tensor:
        """The only output.

        Raises:
            UnsupportedModelError: there are several, or none.
        """
        return _only("output", self.main.outputs)


def _only(what: str, tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) != 1:
        raise UnsupportedModelError(
            f"the model has {len(tensors)} {what}s; exactly one is supported here. Join them inside the model"
        )
    return tensors[0]
