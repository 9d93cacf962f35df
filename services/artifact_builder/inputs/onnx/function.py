"""From an `OnnxGraph` to a function of TensorFlow."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import tensorflow as tf
from onnx.reference import ReferenceEvaluator

from services.artifact_builder.inputs.onnx.graph import Call, Node, OnnxGraph, Operand
from services.artifact_builder.inputs.onnx.operators import ADVICE, OPERATORS
from services.artifact_builder.inputs.onnx.view import Array, View
from services.artifact_builder.inputs.problems import ModelError, first_line

_CHANNELS_FIRST: Final = frozenset(
    {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"}
)
_STUMBLES: Final = (ValueError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError, AssertionError)


class Arrangement(StrEnum):
    """How the model's input relates to a window of the datasets, which has its channels last."""

    SAME = "as it is"
    CHANNELS_FIRST = "channels first"
    FLAT = "flattened"


def arrangement_of(graph: OnnxGraph, window: tuple[int, ...]) -> Arrangement:
    """Return how windows are given to the model.

    Raises:
        ModelError: the model takes none that has such a window's elements.
    """
    shape = graph.input_shape[1:]
    first = (window[-1], *window[:-1])
    # A square window fits both ways: then what reads it decides, for ONNX's convolutions have channels first.
    reads = {node.operator for node in graph.nodes if graph.input in node.inputs}
    if shape == first and (shape != window or reads & _CHANNELS_FIRST):
        return Arrangement.CHANNELS_FIRST
    if shape == window:
        return Arrangement.SAME
    if len(shape) == 1 and shape[0] == int(np.prod(window)):
        return Arrangement.FLAT
    raise ModelError(
        f"the model's input {graph.input} takes {list(graph.input_shape)}; for windows of {list(window)} allowed are "
        f"{[1, *first]}, {[1, *window]} or {[1, int(np.prod(window))]}. Next: correct the export, or input.shape in "
        "edgeloop.yaml"
    )


def arranged(x: npt.NDArray[np.float32], arrangement: Arrangement) -> npt.NDArray[np.float32]:
    """Return windows (rows, *window) as the ONNX model takes them."""
    match arrangement:
        case Arrangement.CHANNELS_FIRST:
            return np.ascontiguousarray(np.moveaxis(x, -1, 1))
        case Arrangement.FLAT:
            return x.reshape(len(x), -1)
        case Arrangement.SAME:
            return x


def function_of(graph: OnnxGraph, arrangement: Arrangement) -> Callable[[Any], Any]:
    """Return the model as a function from one window, (1, *window), to the scores, in TensorFlow's operators.

    Tracing it raises ModelError: an operator or a form of it is not converted.
    """

    def function(x: Any) -> Any:  # noqa: ANN401 - TensorFlow publishes no types
        values: dict[str, View | Array] = dict(graph.constants)
        values[graph.input] = _entered(x, arrangement)
        for node in graph.nodes:
            _run(node, values, graph.shapes)
        result = values.get(graph.output)
        if not isinstance(result, View):
            raise ModelError(
                f"the model's output {graph.output} does not depend on its input. Next: check what was exported"
            )
        return result.plain()

    return function


def _entered(x: Any, arrangement: Arrangement) -> View:  # noqa: ANN401 - as above
    rank = len(x.shape)
    match arrangement:
        case Arrangement.CHANNELS_FIRST:
            return View.of(x, (0, *range(2, rank), 1))
        case Arrangement.FLAT:
            return View(x, ((0,), tuple(range(1, rank))))
        case Arrangement.SAME:
            return View.of(x, tuple(range(rank)))


def _run(node: Node, values: dict[str, View | Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    operands: tuple[Operand, ...] = tuple(values.get(name) if name else None for name in node.inputs)
    missing = next((name for name in node.inputs if name and name not in values), None)
    if missing is not None:
        node.refuse(f"nothing makes its input {missing}", "export the model again")
    if not any(isinstance(operand, View) for operand in operands):
        values.update(_folded(node, {name: operand for name, operand in values.items() if name in node.inputs}))
        return
    operator = OPERATORS.get(node.operator)
    if operator is None:
        _refuse_unknown(node)
    try:
        with tf.name_scope(_scope(node)):
            made = operator(Call(node, operands))
    except ModelError:
        raise
    except (*_STUMBLES, tf.errors.OpError) as error:
        node.refuse(f"its operands do not fit together ({first_line(error)})", "check the model with onnxruntime")
    results = made if isinstance(made, list) else [made]
    for name, result in zip(node.outputs, results, strict=False):  # outputs that training alone needs are not made
        if result is None:
            continue
        values[name] = result
        if name in shapes and tuple(result.shape) != shapes[name]:
            node.refuse(
                f"it makes {list(result.shape)} here and {list(shapes[name])} in ONNX",
                "report this as a fault of Edgeloop, with the model",
            )


def _scope(node: Node) -> str:
    """Return the node's name as TensorFlow's scopes allow it: layers of the generated C are called by it."""
    legal = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in node.name.strip("/"))
    return f"n{legal}" if not legal[:1].isalpha() else legal[:80]


def _refuse_unknown(node: Node) -> NoReturn:
    if node.operator in ADVICE:
        node.refuse("this operator is not converted", ADVICE[node.operator])
    converted = ", ".join(sorted(OPERATORS))
    node.refuse(
        f"this operator is not converted; converted are {converted}",
        "replace the layer that it comes from, or compute it outside the model",
    )


def _folded(node: Node, inputs: Mapping[str, Operand]) -> dict[str, Array]:
    """Return what a node makes of constants, as ONNX's reference implementation says."""
    domain, _, name = node.operator.rpartition(".")
    if domain == "" and name in {"If", "Loop", "Scan"}:
        node.refuse("it runs other graphs", ADVICE[name])
    attributes = {key: _attribute(value) for key, value in node.attributes.items() if value is not None}
    proto = onnx.helper.make_node(name, list(node.inputs), list(node.outputs), domain=domain, **attributes)
    declared = [
        [onnx.helper.make_value_info(key, onnx.TypeProto()) for key in keys if key]
        for keys in (node.inputs, node.outputs)
    ]
    graph = onnx.helper.make_graph([proto], "constants", declared[0], declared[1])
    opset = onnx.helper.make_opsetid(domain, node.opset)
    try:
        results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[opset])).run(None, dict(inputs))
    except Exception as error:  # noqa: BLE001 - the reference raises whatever NumPy does
        node.refuse(
            f"of its constants nothing can be made ({first_line(error)})", "simplify the model, or export again"
        )
    return {key: np.asarray(value) for key, value in zip([o for o in node.outputs if o], results, strict=True)}


def _attribute(value: Any) -> Any:  # noqa: ANN401 - whatever a node holds
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
