"""Makes a .tflite mean what its author meant, whatever runtime runs it: what the converter gets wrong is put right.

The states of UNIDIRECTIONAL_SEQUENCE_LSTM are variables, which every runtime keeps from one inference to the next. A
model that takes whole windows means something else, so operators in front of the LSTM set its states to zero.

The converter gives the output of an LSTM the scale of a concatenation that follows, and the output of REVERSE_V2 one of
its own; runtimes ignore both and write what the state or the input holds. So the output gets that tensor's scale, and a
QUANTIZE makes the other one of it.

Keras repeats pixels and steps by a TILE of axes of one element, which TFLM has not; BROADCAST_TO gives the same.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Final

import flatbuffers
import numpy as np

_STATES: Final = (18, 19)
"""Which inputs are the hidden state and the cell."""
_BROADCAST_AXES: Final = 5
"""So many does TFLM's kernel take."""
_PLACEHOLDER: Final = 127
"""What the schema has in the old field of a code, one signed byte, when the code is larger."""


def corrected(tflite: bytes) -> bytes:
    """Return the model with LSTMs that begin anew, outputs of true scales, and no TILE; any other one as it is."""
    from tensorflow.lite.python import schema_py_generated as schema  # noqa: PLC0415 - seconds, as in conversion

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    lstm, reverse = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM, schema.BuiltinOperator.REVERSE_V2
    tile = schema.BuiltinOperator.TILE
    codes = [code.builtinCode for code in model.operatorCodes]
    if not {lstm, reverse, tile} & set(codes):
        return tflite
    editor = _Editor(schema, model)
    for operator in model.subgraphs[0].operators:
        code = codes[operator.opcodeIndex]
        if code == lstm:
            for place in _STATES:
                editor.set_to_zero(int(operator.inputs[place]))
        if code == tile:
            editor.broadcast(operator)
        editor.operators.append(operator)
        if code in {lstm, reverse}:
            editor.give_true_scale(operator, int(operator.inputs[_STATES[0] if code == lstm else 0]))
    model.subgraphs[0].operators = editor.operators
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@dataclass(slots=True)
class _Editor:
    schema: Any
    model: Any
    operators: list[Any] = field(default_factory=list)

    def give_true_scale(self, operator: Any, source: int) -> None:  # noqa: ANN401 - generated code without types
        """Let an operator's output have the scale of the tensor that it copies, and requantise it after that."""
        copied, output = self._tensors[source], self._tensors[int(operator.outputs[0])]
        if _scales(copied) == _scales(output):
            return
        made = copy.deepcopy(output)
        made.quantization, made.name = copy.deepcopy(copied.quantization), output.name + b" before its scale"
        following = int(operator.outputs[0])
        operator.outputs = [self._added(made)]
        self._append("QUANTIZE", "Quantize", operator.outputs[0], following)

    def broadcast(self, operator: Any) -> None:  # noqa: ANN401 - as above
        """Turn a TILE into a BROADCAST_TO, where it repeats single elements and TFLM has as many axes."""
        ends = int(operator.inputs[0]), int(operator.outputs[0])
        shapes = [[int(size) for size in self._tensors[end].shape] for end in ends]
        repeated = [size == 1 for size, made in zip(*shapes, strict=True) if size != made]
        if not all(repeated) or len(shapes[0]) > _BROADCAST_AXES:
            return
        shape = copy.deepcopy(self._tensors[int(operator.inputs[1])])
        shape.name, shape.buffer = self._tensors[ends[1]].name + b" shape", self._buffer(shapes[1])
        shape.type = self.schema.TensorType.INT32
        operator.inputs = [ends[0], self._added(shape)]
        operator.opcodeIndex = self._code(self.schema.BuiltinOperator.BROADCAST_TO, version=2)
        operator.builtinOptionsType = self.schema.BuiltinOptions.BroadcastToOptions
        operator.builtinOptions = self.schema.BroadcastToOptionsT()

    def set_to_zero(self, state: int) -> None:
        """Append what sets a variable to zero: a RESHAPE of a constant, which runtimes copy."""
        kinds = self.schema.TensorType
        dtypes = {kinds.INT8: np.int8, kinds.INT16: np.int16, kinds.FLOAT32: np.float32}
        zeros = copy.deepcopy(self._tensors[state])
        zeros.isVariable, zeros.name = False, b"zeros of " + zeros.name
        _, zero_points = _scales(zeros)
        values = np.full(zeros.shape, zero_points[0] if zero_points else 0, dtypes[zeros.type])
        zeros.buffer = self._buffer(values)
        options = self._append("RESHAPE", "Reshape", self._added(zeros), state)
        options.newShape = [int(size) for size in zeros.shape]

    @property
    def _tensors(self) -> list[Any]:
        tensors: list[Any] = self.model.subgraphs[0].tensors
        return tensors

    def _buffer(self, values: Any) -> int:  # noqa: ANN401 - as above
        """Append constants, integers of 32 bits unless they are an array, and return their buffer."""
        buffer = self.schema.BufferT()
        array = values if isinstance(values, np.ndarray) else np.array(values, np.int32)
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def _added(self, tensor: Any) -> int:  # noqa: ANN401 - as above
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _append(self, name: str, options: str, source: int, made: int) -> Any:  # noqa: ANN401 - as above
        """Append an operator, and return its options."""
        number = getattr(self.schema.BuiltinOperator, name)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._code(number)
        operator.inputs, operator.outputs = [source], [made]
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{options}Options")
        operator.builtinOptions = getattr(self.schema, f"{options}OptionsT")()
        self.operators.append(operator)
        return operator.builtinOptions

    def _code(self, number: int, version: int = 1) -> int:
        codes = self.model.operatorCodes
        for place, code in enumerate(codes):
            if code.builtinCode == number:
                return place
        made = self.schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode = number, min(number, _PLACEHOLDER)
        made.version = version
        codes.append(made)
        return len(codes) - 1


def _scales(tensor: Any) -> tuple[list[float], list[int]]:  # noqa: ANN401 - as above
    quantisation = tensor.quantization
    if quantisation is None or quantisation.scale is None:
        return [], []
    return list(quantisation.scale), [int(zero) for zero in quantisation.zeroPoint]
