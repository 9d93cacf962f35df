"""What of a .tflite is not int8: each operator and tensor by name."""

from collections.abc import Sequence
from typing import Final

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.graph import Graph, Operator, Tensor
from services.artifact_builder.codegen.reader import read_graph

_FLOATS: Final = ("float32", "float16", "float64", "bfloat16")
_BORDERS: Final = ("QUANTIZE", "DEQUANTIZE")
_SHOWN: Final = 5


class NotQuantisedError(ValueError):
    """A model is not in full int8."""


def float_operators(graph: Graph) -> tuple[str, ...]:
    """Return what computes in floating point, one description an operator, in the graph's order.

    An operator with int8 weights and float activations (hybrid) is one of them; the QUANTIZE and DEQUANTIZE around
    it are not: they are there because of it.
    """
    islands = [operator for operator in graph.operators if operator.name not in _BORDERS and _float_tensors(operator)]
    return tuple(_described(operator) for operator in islands)


def require_full_int8(tflite: bytes, *, window: tuple[int, ...], classes: int) -> None:
    """Check a model that its author quantised.

    Raises:
        MalformedModelError: the bytes are not a whole model.
        UnsupportedModelError: it has several inputs, outputs or subgraphs.
        NotQuantisedError: something in it is not int8, or its input or output is not the manifest's.
    """
    graph = read_graph(tflite)
    entry, leave = _only("input", graph.main.inputs), _only("output", graph.main.outputs)
    if entry.type_name in _FLOATS and not any(_is_int8(operator) for operator in graph.operators):
        raise NotQuantisedError(
            f"the .tflite is a float model ({entry.label} is {entry.type_name}), and TensorFlow Lite does "
            "not quantise a .tflite any more: its converter starts from the original. Next: give the Keras, SavedModel "
            "or ONNX file it was converted from, or convert it with a representative dataset to full int8"
        )
    if islands := float_operators(graph):
        raise NotQuantisedError(not_quantised(islands))
    for place, tensor in (("input", entry), ("output", leave)):
        if tensor.type_name != "int8":
            raise NotQuantisedError(
                f"the .tflite's {place}, {tensor.label}, is {tensor.type_name}; allowed is int8. Next: convert it with "
                f"converter.inference_{place}_type = tf.int8"
            )
    for place, tensor, wanted in (("input", entry, (1, *window)), ("output", leave, (1, classes))):
        if tensor.shape != wanted:
            raise NotQuantisedError(
                f"the .tflite's {place}, {tensor.label}, has the shape {list(tensor.shape)}; edgeloop.yaml says "
                f"{list(wanted)}. Next: correct the model, or input.shape and labels"
            )


def _only(place: str, tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) != 1:
        labels = ", ".join(tensor.label for tensor in tensors) or "none"
        raise UnsupportedModelError(
            f"the model has {len(tensors)} {place}s ({labels}); allowed is one. Next: export it with one {place}"
        )
    return tensors[0]


def named_islands(tflite: bytes) -> tuple[str, ...]:
    """Return `float_operators` of a file; nothing when it cannot be read."""
    try:
        return float_operators(read_graph(tflite))
    except (MalformedModelError, UnsupportedModelError):
        return ()


def not_quantised(islands: Sequence[str]) -> str:
    """Return what to tell the author about operators that stay in floating point."""
    more = f", and {len(islands) - _SHOWN} more" if len(islands) > _SHOWN else ""
    return (
        f"the model is not int8 throughout: {'; '.join(islands[:_SHOWN])}{more}. Allowed are operators that TensorFlow "
        "Lite has in int8. Next: replace these layers, or compute them outside the model"
    )


def _described(operator: Operator) -> str:
    tensors = ", ".join(f"{tensor.label} in {tensor.type_name}" for tensor in _float_tensors(operator)[:2])
    return f"operator {operator.index}, {operator.name}, with {tensors}"


def _float_tensors(operator: Operator) -> list[Tensor]:
    tensors = [tensor for tensor in (*operator.outputs, *operator.inputs) if tensor is not None]
    return [tensor for tensor in tensors if tensor.type_name in _FLOATS and tensor.data is None]


def _is_int8(operator: Operator) -> bool:
    return any(tensor is not None and tensor.type_name == "int8" for tensor in operator.inputs)
