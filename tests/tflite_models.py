"""Puts .tflite models together tensor by tensor: a converter would choose shapes and scales itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import pytest
from numpy.typing import NDArray

schema = pytest.importorskip(
    "tflite_micro.tensorflow.lite.micro.python.schema_py_generated",
    reason="tflite-micro is published for x86_64 Linux only",
)

_TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.float32): schema.TensorType.FLOAT32,
}


@dataclass(slots=True)
class Subgraph:
    """Tensors and operators of one subgraph. Tensors are named by their number."""

    model: "Model"
    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        *,
        dtype: Any = np.int8,
        axis: int = 0,
        variable: bool = False,
        name: str = "",
    ) -> int:
        """Add a tensor whose values are made at run time."""
        made = schema.TensorT()
        made.shape, made.type, made.buffer, made.isVariable = list(shape), _TYPES[np.dtype(dtype)], 0, variable
        made.name = (name or f"t{len(self.tensors)}").encode()
        if scale is not None:
            scales = [float(scale)] if isinstance(scale, (int, float)) else [float(one) for one in scale]
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = scales
            made.quantization.zeroPoint = [zero_point] * len(scales)
            made.quantization.quantizedDimension = axis
        self.tensors.append(made)
        return len(self.tensors) - 1

    def resource(self) -> int:
        """Add what a VAR_HANDLE makes."""
        made = self.tensor(())
        self.tensors[made].type = schema.TensorType.RESOURCE
        return made

    def input(
        self, shape: Sequence[int], scale: float | None = 0.1, zero_point: int = 0, *, dtype: Any = np.int8
    ) -> int:
        """Add an input of the model."""
        self.inputs.append(self.tensor(shape, scale, zero_point, dtype=dtype, name=f"input_{len(self.inputs)}"))
        return self.inputs[-1]

    def constant(
        self, values: Any, scale: float | Sequence[float] | None = None, zero_point: int = 0, *, axis: int = 0
    ) -> int:
        """Add a constant; plain integers are int32."""
        array: NDArray[Any] = np.asarray(values)
        if array.dtype == np.int64:
            array = array.astype(np.int32)
        made = self.tensor(array.shape, scale, zero_point, dtype=array.dtype, axis=axis)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.tensors[made].buffer = len(self.model.buffers) - 1
        return made

    def operator(  # noqa: PLR0917 - the order of the schema: name, inputs, outputs, options
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        version: int = 2,
        intermediates: Sequence[int] = (),
        **fields: Any,
    ) -> None:
        """Add an operator. `options` names its table without the ending ``Options``."""
        made = schema.OperatorT()
        made.opcodeIndex = self.model.code(name, version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if intermediates:
            made.intermediates = list(intermediates)
        if options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
            made.builtinOptions = getattr(schema, f"{options}OptionsT")()
            for key, value in fields.items():
                setattr(made.builtinOptions, key, value)
        self.operators.append(made)


@dataclass(slots=True)
class Model:
    """A model under construction, with its first subgraph."""

    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: list[Any] = field(default_factory=list)
    others: list[Subgraph] = field(default_factory=list)
    main: Subgraph = field(init=False)

    def __post_init__(self) -> None:
        """Begin the first subgraph."""
        self.main = Subgraph(self)

    def subgraph(self) -> Subgraph:
        """Add a subgraph that CALL_ONCE can name."""
        self.others.append(Subgraph(self))
        return self.others[-1]

    def code(self, name: str, version: int) -> int:
        """Return the number of an operator's code."""
        made = schema.OperatorCodeT()
        made.builtinCode, made.version = getattr(schema.BuiltinOperator, name), version
        made.deprecatedBuiltinCode = min(made.builtinCode, 127)
        self.codes.append(made)
        return len(self.codes) - 1

    def pack(self) -> bytes:
        """Return the file."""
        model = schema.ModelT()
        model.version, model.operatorCodes, model.buffers = 3, self.codes, self.buffers
        model.subgraphs = []
        for part in (self.main, *self.others):
            subgraph = schema.SubGraphT()
            subgraph.tensors, subgraph.operators = part.tensors, part.operators
            subgraph.inputs, subgraph.outputs = part.inputs, part.outputs
            model.subgraphs.append(subgraph)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def classifier(weight_scale: float, logit_scale: float) -> bytes:
    """Return a dense layer and a softmax. TFLM's softmax checks that its input's scale is above 1.5e-8, and aborts."""
    model = Model()
    graph = model.main
    window, rows = graph.input((1, 8, 1), 0.1), graph.tensor((1, 8), 0.1)
    weights = graph.constant(np.arange(16, dtype=np.int8).reshape(2, 8), weight_scale)
    bias = graph.constant(np.zeros(2, np.int32), 0.1 * weight_scale)
    logits, classes = graph.tensor((1, 2), logit_scale), graph.tensor((1, 2), 1 / 256, -128)
    graph.operator("RESHAPE", [window, graph.constant([1, 8])], [rows])
    graph.operator("FULLY_CONNECTED", [rows, weights, bias], [logits], "FullyConnected")
    graph.operator("SOFTMAX", [logits], [classes], "Softmax", beta=1.0)
    graph.outputs.append(classes)
    return model.pack()


AS_AFTER_TRAINING_ON_ZEROS = classifier(1e-10, 1e-10)
SOUND = classifier(0.02, 0.1)
