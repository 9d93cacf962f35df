"""Resource variables: what a streaming model keeps from one inference to the next.

VAR_HANDLE names a variable, READ_VARIABLE and ASSIGN_VARIABLE copy it, and CALL_ONCE runs a subgraph that sets it
before the first inference. As in TensorFlow Lite for Microcontrollers every byte of a variable that nothing sets is
the zero point of what is assigned to it later.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from services.artifact_builder.codegen.graph import Graph, Operator, Tensor

STATE_OPERATORS: Final = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})

_MAY_SHARE_BYTES: Final = frozenset(
    {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK", "TRANSPOSE"}
    | {"BROADCAST_TO", "REVERSE_V2", "GATHER", "BATCH_TO_SPACE_ND", "SPACE_TO_DEPTH", "CONCATENATION", "PACK"}
)


class _Name(NamedTuple):
    container: str
    shared_name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """Bytes outside the arena that keep their values between inferences."""

    tensor: Tensor
    fill: int = 0
    """Every byte before the first inference, where `initial` says nothing."""
    initial: bytes | None = None

    @property
    def begins_as_zeros(self) -> bool:
        """Whether memory that was never written is right for the first inference."""
        return self.fill == 0 and self.initial is None


class Variables:
    """The resource variables of a graph."""

    def __init__(self, graph: Graph, first_index: int) -> None:
        """Find every variable. Their tensors get the indices `first_index`, `first_index` - 1 and so on.

        Raises:
            MalformedModelError: a variable is used with tensors of different sizes, or without a name.
            UnsupportedModelError: what sets a variable is not a constant.
        """
        self._names = _names(graph.operators)
        self._variables: dict[_Name, Variable] = {}
        self._filled: set[_Name] = set()
        for operator in graph.operators:
            if operator.name in {"READ_VARIABLE", "ASSIGN_VARIABLE"}:
                self._declare(operator, first_index - len(self._variables))
        for operator in graph.operators:
            if operator.name == "CALL_ONCE":
                self._initialise(operator, graph)

    def all(self) -> Iterable[Variable]:
        """Return them in the order of their first use."""
        return self._variables.values()

    def of(self, operator: Operator) -> Tensor:
        """Return what a READ_VARIABLE reads or an ASSIGN_VARIABLE sets."""
        return self._variables[self._name(operator, self._names)].tensor

    def _declare(self, operator: Operator, index: int) -> None:
        name = self._name(operator, self._names)
        value = operator.output if operator.name == "READ_VARIABLE" and operator.outputs else operator.input(1)
        if value.type.size_bytes == 0:
            raise operator.unsupported(
                f"{value.label} is {value.type_name}", "Keep int8, int16, int32 or float32 state"
            )
        tensor = replace(value, index=index, name=name.shared_name or value.name, data=None)
        known = self._variables.setdefault(name, Variable(tensor))
        if operator.name == "ASSIGN_VARIABLE" and name not in self._filled:
            self._filled.add(name)
            self._variables[name] = replace(known, fill=_byte(value.zero_points[0] if value.zero_points else 0))
        found, expected = (value.type, value.size), (known.tensor.type, known.tensor.size)
        if found != expected:
            raise operator.malformed(f"{value.label} differs in type or size from the variable {name.shared_name!r}")

    def _initialise(self, call: Operator, graph: Graph) -> None:
        number = call.option("InitSubgraphIndex")
        if not 1 <= number <= len(graph.others):
            raise call.malformed(f"it calls subgraph {number} of {len(graph.others) + 1}")
        operators = graph.others[number - 1].operators
        names = _names(operators)
        for operator in operators:
            if operator.name == "VAR_HANDLE":
                continue
            if operator.name != "ASSIGN_VARIABLE":
                raise operator.unsupported(
                    "the subgraph that sets variables computes something; only constants are assigned there",
                    "Initialise the layer's state with constants",
                )
            name = self._name(operator, names)
            value = operator.input(1)
            if value.data is None or len(value.data) != value.size_bytes:
                raise operator.unsupported(f"{value.label} is no whole constant", "Initialise state with constants")
            if name not in self._variables:
                continue  # set, and never read: nothing can tell
            variable = self._variables[name]
            if (value.type, value.size) != (variable.tensor.type, variable.tensor.size):
                raise operator.malformed(f"{value.label} differs in type or size from the variable it sets")
            self._variables[name] = replace(variable, initial=value.data)

    @staticmethod
    def _name(operator: Operator, names: Mapping[int, _Name]) -> _Name:
        handle = operator.input(0)
        if handle.index not in names:
            raise operator.malformed(f"{handle.label} is no variable that a VAR_HANDLE names")
        return names[handle.index]


def _byte(value: int) -> int:
    """Return what a byte holds that is set to a value."""
    return (value + 128) % 256 - 128


def _names(operators: Sequence[Operator]) -> dict[int, _Name]:
    return {
        output.index: _Name(operator.texts.get("Container", ""), operator.texts.get("SharedName", ""))
        for operator in operators
        if operator.name == "VAR_HANDLE"
        for output in operator.outputs
    }


def must_copy(operators: Sequence[Operator], outputs: Sequence[Tensor]) -> frozenset[int]:
    """Return the places of the reads whose value is still wanted after their variable was set again.

    Every other read may use the variable's own bytes.
    """
    names = _names(operators)
    sets: dict[_Name, list[int]] = {}
    last_use = {tensor.index: len(operators) for tensor in outputs}
    copied: set[int] = set()
    for place in range(len(operators) - 1, -1, -1):
        operator = operators[place]
        if operator.name == "ASSIGN_VARIABLE" and operator.inputs[0] is not None:
            sets.setdefault(names.get(operator.inputs[0].index, _Name("", "")), []).append(place)
        if operator.name == "READ_VARIABLE" and operator.inputs and operator.inputs[0] is not None:
            until = max((last_use.get(tensor.index, place) for tensor in operator.outputs), default=place)
            name = names.get(operator.inputs[0].index, _Name("", ""))
            if any(place < other < until for other in sets.get(name, ())):
                copied.add(place)
        # Bytes are wanted as long as those of any tensor that may share them.
        shared = operator.outputs if operator.name in _MAY_SHARE_BYTES else ()
        until = max((last_use.get(tensor.index, place) for tensor in shared), default=place)
        for tensor in operator.inputs:
            if tensor is not None:
                last_use[tensor.index] = max(last_use.get(tensor.index, place), until)
    return frozenset(copied)
