"""Makes a .tflite mean what its author meant, whatever runtime runs it: what the converter gets wrong is put right.

The states of UNIDIRECTIONAL_SEQUENCE_LSTM are variables, which every runtime keeps from one inference to the next. A
model that takes whole windows means something else, so operators in front of the LSTM set its states to zero.

The converter gives the output of an LSTM the scale of a concatenation that follows, and the output of REVERSE_V2 one of
its own; runtimes ignore both and write what the state or the input holds. So the output gets that tensor's scale, and a
QUANTIZE makes the other one of it.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Final

import flatbuffers
import numpy as np

_STATES: Final = (18, 19)
"""Which inputs are the hidden state and the cell."""


def corrected(tflite: bytes) -> bytes:
    """Return the model with LSTMs that begin anew and outputs of true scales; any other model as it is."""
    from tensorflow.lite.python import schema_py_generated as schema  # noqa: PLC0415 - seconds, as in conversion

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    lstm, reverse = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM, schema.BuiltinOperator.REVERSE_V2
    codes = [code.builtinCode for code in model.operatorCodes]
    if not {lstm, reverse} & set(codes):
        return tflite
    editor = _Editor(schema, model)
    for operator in model.subgraphs[0].operators:
        code = codes[operator.opcodeIndex]
        if code == lstm:
            for place in _STATES:
                editor.set_to_zero(int(operator.inputs[place]))
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

    def set_to_zero(self, state: int) -> None:
        """Append what sets a variable to zero: a RESHAPE of a constant, which runtimes copy."""
        kinds = self.schema.TensorType
        dtypes = {kinds.INT8: np.int8, kinds.INT16: np.int16, kinds.FLOAT32: np.float32}
        zeros = copy.deepcopy(self._tensors[state])
        zeros.isVariable, zeros.name = False, b"zeros of " + zeros.name
        _, zero_points = _scales(zeros)
        buffer = self.schema.BufferT()
        values = np.full(zeros.shape, zero_points[0] if zero_points else 0, dtypes[zeros.type])
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        zeros.buffer = len(self.model.buffers) - 1
        options = self._append("RESHAPE", "Reshape", self._added(zeros), state)
        options.newShape = [int(size) for size in zeros.shape]

    @property
    def _tensors(self) -> list[Any]:
        tensors: list[Any] = self.model.subgraphs[0].tensors
        return tensors

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

    def _code(self, number: int) -> int:
        codes = self.model.operatorCodes
        for place, code in enumerate(codes):
            if code.builtinCode == number:
                return place
        made = self.schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = number
        made.version = 1
        codes.append(made)
        return len(codes) - 1


def _scales(tensor: Any) -> tuple[list[float], list[int]]:  # noqa: ANN401 - as above
    quantisation = tensor.quantization
    if quantisation is None or quantisation.scale is None:
        return [], []
    return list(quantisation.scale), [int(zero) for zero in quantisation.zeroPoint]
