"""LiteRT (`ai-edge-litert`): the float32 model's answers, and the bits of int8 models in the numerics `litert`."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceMissingError
from shared.inference.int8 import require_int8

NUMERICS: Final = Numerics.LITERT

_BATCH_ROWS: Final = 256  # bounds the activations' memory; larger batches are no faster on models of this size


def litert_float_outputs(model: bytes, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Run `inputs` through a float32 model, on one thread so that a result does not depend on the machine's cores.

    Args:
        model: A float32 .tflite with one input and one output.
        inputs: Windows, shape (rows, *input shape).

    Returns:
        The output tensors, shape (rows, classes).

    Raises:
        ReferenceMissingError: LiteRT is not installed.
        InferenceError: LiteRT cannot run the model, or `inputs` do not fit it.
    """
    if inputs.dtype != np.float32:
        raise InferenceError(f"inputs are {inputs.dtype}; the float32 reference takes float32")
    interpreter = _interpreter(model)
    wanted, produced = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for place, details in (("input", wanted), ("output", produced)):
        if np.dtype(details["dtype"]) != np.float32:
            raise InferenceError(f"the model's {place} tensor is {np.dtype(details['dtype'])}; float32 is allowed here")
    shape = tuple(int(size) for size in wanted["shape"][1:])
    if tuple(inputs.shape[1:]) != shape:
        raise InferenceError(f"a row of the inputs has shape {inputs.shape[1:]}; the model takes {shape}")
    outputs = np.empty((len(inputs), int(np.prod(produced["shape"][1:]))), dtype=np.float32)
    step = _BATCH_ROWS if _takes_batches(wanted) else 1
    for start in range(0, len(inputs), step):
        batch = inputs[start : start + step]
        try:
            _run(interpreter, wanted["index"], batch)
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"LiteRT failed on rows {start} to {start + len(batch) - 1}: {error}") from error
        outputs[start : start + len(batch)] = interpreter.get_tensor(produced["index"]).reshape(len(batch), -1)
    return outputs


def litert_int8_outputs(model: bytes, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Run every row of `inputs` through the default interpreter (XNNPACK on) on one thread, one row at a time.

    Args:
        model: A full-int8 .tflite with one input and one output.
        inputs: Quantised windows, shape (rows, *input shape).

    Returns:
        The output tensors, shape (rows, classes).

    Raises:
        ReferenceMissingError: LiteRT is not installed.
        InferenceError: LiteRT cannot run the model, or `inputs` do not fit it.
    """
    interpreter = _interpreter(model)
    wanted, produced = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    shape = require_int8(inputs, wanted, produced)
    outputs = np.empty((len(inputs), int(np.prod(produced["shape"]))), dtype=np.int8)
    for row, window in enumerate(inputs):
        try:
            _run(interpreter, wanted["index"], window.reshape(shape))
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"LiteRT failed on row {row}: {error}") from error
        outputs[row] = interpreter.get_tensor(produced["index"]).ravel()
    return outputs


def _takes_batches(wanted: dict[str, Any]) -> bool:
    # A model exported with a fixed batch of one has constant shapes inside (RESHAPE): resized, it fails or folds rows
    # together. Only what it says itself counts.
    signature = wanted.get("shape_signature", wanted["shape"])
    return int(signature[0]) == -1


def _run(interpreter: Any, index: int, batch: npt.NDArray[np.float32] | npt.NDArray[np.int8]) -> None:  # noqa: ANN401 - untyped
    if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
        interpreter.resize_tensor_input(index, batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, np.ascontiguousarray(batch))
    interpreter.invoke()


def _interpreter(model: bytes) -> Any:  # noqa: ANN401 - ai_edge_litert publishes no types
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - optional, and 0.3 s to import
    except ImportError as error:
        raise ReferenceMissingError(
            f"ai_edge_litert cannot be imported ({error}); pip install 'edgeloop[validators]'"
        ) from error
    try:
        return Interpreter(model_content=model, num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise InferenceError(
            f"LiteRT cannot load the model ({len(model)} bytes): {error}; it must be a whole .tflite of operators "
            "that LiteRT has"
        ) from error
