"""An ONNX graph as Python values: nodes whose attributes are read, in order, from one input to one output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np

from services.artifact_builder.inputs.onnx.view import Array, View
from services.artifact_builder.inputs.problems import ModelError

Operand: TypeAlias = "View | Array | None"
"""An activation, a constant in ONNX's order, or an optional input that is left out."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the graph."""

    index: int
    name: str
    operator: str
    """With its domain in front unless it is ONNX's own: ``Conv``, ``ai.onnx.ml.Scaler``."""
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        """How an error names it."""
        name = f" ({self.name})" if self.name else ""
        made = next((output for output in self.outputs if output), "nothing")
        return f"node {self.index}{name}, {self.operator} of opset {self.opset}, which makes tensor {made}"

    def refuse(self, why: str, next_step: str) -> NoReturn:
        """Raise ModelError about this node."""
        raise ModelError(f"{self.label}: {why}. Next: {next_step}")


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A checked model, cut down to what its scores depend on."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    input_shape: tuple[int, ...]
    output: str
    shapes: Mapping[str, tuple[int, ...]]
    """Of the tensors whose shapes ONNX itself infers, all of them fixed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node and its operands: what an operator's function is given."""

    node: Node
    operands: tuple[Operand, ...]

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - whatever the node holds
        """Return an attribute: int, float, str, a list of them, or an array."""
        return self.node.attributes.get(name, default)

    def has(self, position: int) -> bool:
        """Return whether an optional input is there."""
        return position < len(self.operands) and self.operands[position] is not None

    def operand(self, position: int) -> View | Array:
        """Return a required input."""
        found = self.operands[position] if position < len(self.operands) else None
        if found is None:
            self.node.refuse(f"its input {position} is missing", "export the model again")
        return found

    def view(self, position: int = 0) -> View:
        """Return a required input as an activation."""
        found = self.operand(position)
        if not isinstance(found, View):
            self.node.refuse(f"its input {position} is a constant", "export the model with constant folding")
        return found

    def constant(self, position: int, default: Array | None = None) -> Array:
        """Return an input that has to be a constant; floats are float32."""
        if not self.has(position) and default is not None:
            return default
        found = self.operand(position)
        if isinstance(found, View):
            self.node.refuse(
                f"its input {position}, {self.node.inputs[position]}, is computed; allowed is a constant",
                "export a model whose shapes and weights are fixed",
            )
        return found.astype(np.float32) if np.issubdtype(found.dtype, np.floating) else found

    def integers(self, position: int, attribute: str, default: Sequence[int] | None = None) -> list[int] | None:
        """Return numbers that older opsets keep in an attribute and newer ones in an input."""
        if self.has(position):
            return [int(value) for value in np.atleast_1d(self.constant(position))]
        found = self.attribute(attribute, default)
        return None if found is None else [int(value) for value in np.atleast_1d(found)]

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis counted from the front."""
        if not -rank <= axis < rank:
            self.node.refuse(f"it names axis {axis} of {rank}", "export the model again")
        return axis % rank
