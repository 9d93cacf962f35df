"""Reads an ONNX file into an `OnnxGraph`, and believes none of it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import checker, inliner, numpy_helper, shape_inference

from services.artifact_builder.inputs.onnx.graph import Node, OnnxGraph
from services.artifact_builder.inputs.problems import ModelError, first_line

MAXIMUM_BYTES: Final = 64 * 2**20
MAXIMUM_NODES: Final = 5_000
MAXIMUM_ELEMENTS: Final = 1 << 24
"""Of one tensor: a board's RAM is a 64th of it."""
OLDEST_OPSET: Final = 9
DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml")

_AGAIN: Final = "Next: export the model again, for a batch of 1"


def read_onnx(data: bytes) -> onnx.ModelProto:
    """Return a model whose batch is 1, checked by `onnx.checker` with shape inference.

    Raises:
        ModelError: it is corrupt, too large, keeps data in other files, or uses what is not allowed.
    """
    if len(data) > MAXIMUM_BYTES:
        raise ModelError(
            f"the ONNX file has {len(data):,} bytes; allowed are {MAXIMUM_BYTES:,}. Next: use a smaller model"
        )
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"not a readable ONNX file, it is corrupt or truncated: {error}. {_AGAIN}") from error
    _require_whole(model)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        _fix_batch(model)
        checker.check_model(model, full_check=True)
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except ModelError:
        raise
    except Exception as error:  # the checker's C++ raises errors of several unrelated kinds
        raise ModelError(f"onnx.checker refuses the model: {_sentence(error)}. {_AGAIN}") from error
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if math.prod(max(size, 1) for size in shape) > MAXIMUM_ELEMENTS:
            raise _too_large(info.name, shape)
    return inferred


def canonical_onnx(data: bytes) -> bytes:
    """Return the model without names of tools, dates, documentation and random numbers, weights in order."""
    model = onnx.ModelProto.FromString(data)
    for field in ("producer_name", "producer_version", "doc_string", "model_version", "domain", "metadata_props"):
        model.ClearField(field)
    for part in (model.graph, *model.functions, *_all_nodes(model)):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.graph.name = "model"  # skl2onnx draws a random one
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        info.ClearField("doc_string")
        info.ClearField("metadata_props")
    model.graph.initializer.sort(key=lambda tensor: tensor.name)
    model.graph.value_info.sort(key=lambda info: info.name)
    canonical: bytes = model.SerializeToString(deterministic=True)
    return canonical


def graph_of(model: onnx.ModelProto) -> OnnxGraph:
    """Return what the scores of a read model depend on.

    Raises:
        ModelError: it has not one input of floats, or not one output of scores.
    """
    constants = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(info.name for info in inputs) or "none"
        raise ModelError(f"the model has the inputs {names}; allowed is one. Next: join them inside the model")
    given = inputs[0].type.tensor_type
    if given.elem_type != onnx.TensorProto.FLOAT:
        raise ModelError(
            f"the model's input {inputs[0].name} is {_type(inputs[0])}; allowed is float32. "
            "Next: export the model for float32 (skl2onnx: FloatTensorType)"
        )
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    nodes = [_node(index, node, opsets) for index, node in enumerate(model.graph.node)]
    output = _scores(model)
    infos = (*model.graph.value_info, *model.graph.output)
    return OnnxGraph(
        nodes=_needed(nodes, output),
        constants=constants,
        input=inputs[0].name,
        input_shape=tuple(dim.dim_value for dim in given.shape.dim),
        output=output,
        shapes={
            info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
            for info in infos
            if info.type.tensor_type.HasField("shape")
            and all(dim.dim_value > 0 for dim in info.type.tensor_type.shape.dim)
        },
    )


def _require_whole(model: onnx.ModelProto) -> None:
    if not model.graph.node:
        raise ModelError(f"the ONNX file holds no graph. {_AGAIN}")
    nodes = sum(1 for _ in _all_nodes(model))
    if nodes > MAXIMUM_NODES:
        raise ModelError(f"the model has {nodes} nodes; allowed are {MAXIMUM_NODES}. Next: use a smaller model")
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain not in DOMAINS:
            raise ModelError(
                f"the model uses operators of {entry.domain[:80]!r} (opset {entry.version}); allowed are those of ONNX "
                "and ai.onnx.ml. Next: export it without custom operators"
            )
        if entry.domain != "ai.onnx.ml" and not OLDEST_OPSET <= entry.version <= newest:
            raise ModelError(
                f"the model is of opset {entry.version}; allowed are {OLDEST_OPSET} to {newest}. "
                "Next: export it with opset_version=17"
            )
    for tensor in _all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "another file")
            raise ModelError(
                f"tensor {tensor.name} keeps its data in {place[:200]!r}; allowed is a model in one file, and no other "
                "is ever opened. Next: save it with onnx.save(model, path, save_as_external_data=False)"
            )
        if math.prod(max(size, 0) for size in tensor.dims) > MAXIMUM_ELEMENTS:
            raise _too_large(tensor.name, list(tensor.dims))


def _too_large(name: str, shape: Sequence[int]) -> ModelError:
    return ModelError(
        f"tensor {name} has the shape {list(shape)}; allowed are {MAXIMUM_ELEMENTS:,} elements. "
        "Next: use a model that fits a microcontroller"
    )


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in _all_nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer


def _fix_batch(model: onnx.ModelProto) -> None:
    """Make every input's first axis 1 where it is free; shapes that were inferred for a free batch are dropped."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        if info.name in weights:
            continue
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            free = dim.dim_param or "?"
            if axis == 0 and not dim.HasField("dim_value"):
                dim.dim_value = 1
            elif axis == 0 and dim.dim_value != 1:
                raise ModelError(
                    f"the model's input {info.name} takes batches of {dim.dim_value}; a board infers one window at a "
                    "time. Next: export it for a batch of 1, or with a dynamic batch axis"
                )
            elif dim.dim_value < 1:
                raise ModelError(
                    f"axis {axis} of the model's input {info.name} is dynamic ({free}); only the batch may be. "
                    "Next: export it with the size of input.shape in edgeloop.yaml"
                )
    del model.graph.value_info[:]
    for info in model.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()


def _scores(model: onnx.ModelProto) -> str:
    """Return the tensor of scores; labels beside it are left out, and ZipMap is what makes dictionaries of scores."""
    makers = {output: node for node in model.graph.node for output in node.output}
    scores = []
    for info in model.graph.output:
        maker = makers.get(info.name)
        if maker is not None and maker.op_type == "ZipMap":
            scores.append(maker.input[0])
        elif info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            scores.append(info.name)
    if len(scores) != 1:
        found = ", ".join(f"{info.name} ({_type(info)})" for info in model.graph.output)
        raise ModelError(
            f"the model has the outputs {found}; allowed is one of float32, a score for each label. "
            "Next: export the scores alone"
        )
    return scores[0]


def _needed(nodes: Sequence[Node], output: str) -> tuple[Node, ...]:
    wanted, needed = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            needed.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(needed))


def _node(index: int, node: onnx.NodeProto, opsets: dict[str, int]) -> Node:
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = opsets.get(node.domain, opsets.get(domain, opsets.get("ai.onnx", 1)))
    attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
    operator = f"{domain}.{node.op_type}" if domain else node.op_type
    return Node(index, node.name, operator, opset, tuple(node.input), tuple(node.output), attributes)


def _value(attribute: onnx.AttributeProto) -> Any:  # noqa: ANN401 - whatever it holds
    match attribute.type:
        case onnx.AttributeProto.STRING:
            return attribute.s.decode("utf-8", "replace")
        case onnx.AttributeProto.STRINGS:
            return [value.decode("utf-8", "replace") for value in attribute.strings]
        case onnx.AttributeProto.TENSOR:
            return _array(attribute.t)
        case onnx.AttributeProto.INTS | onnx.AttributeProto.FLOATS:
            return list(onnx.helper.get_attribute_value(attribute))
        case onnx.AttributeProto.INT | onnx.AttributeProto.FLOAT:
            return onnx.helper.get_attribute_value(attribute)
    return None  # graphs and types: no operator that is converted has one


def _array(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # what a damaged tensor makes NumPy say is without end
        raise ModelError(f"tensor {tensor.name} cannot be read: {first_line(error)}. {_AGAIN}") from error


def _type(info: onnx.ValueInfoProto) -> str:
    kind = info.type.WhichOneof("value") or "of no type"
    if kind != "tensor_type":
        return kind.removesuffix("_type")
    return onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type).lower()


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
