"""TensorFlow Lite for Microcontrollers itself, from PyPI: what firmware must reproduce bit by bit."""

import platform
import sys
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceMissingError
from shared.inference.int8 import require_int8

NUMERICS: Final = Numerics.TFLM

_ARENA_BYTES: Final = 8 * 1024 * 1024  # far above the RAM of any board in the catalogue: never the limit here


def tflm_outputs(model: bytes, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Run every row of `inputs` through TFLM, one at a time.

    Args:
        model: A full-int8 .tflite with one input and one output.
        inputs: Quantised windows, shape (rows, *input shape).

    Returns:
        The output tensors, shape (rows, classes).

    Raises:
        ReferenceMissingError: TFLM is not installed, or not published for this platform.
        InferenceError: TFLM cannot run the model, or `inputs` do not fit it.
    """
    interpreter = _interpreter(model)
    wanted, produced = interpreter.get_input_details(0), interpreter.get_output_details(0)
    shape = require_int8(inputs, wanted, produced)
    outputs = np.empty((len(inputs), int(np.prod(produced["shape"]))), dtype=np.int8)
    for row, window in enumerate(inputs):
        try:
            interpreter.set_input(np.ascontiguousarray(window).reshape(shape), 0)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"TFLM failed on row {row}: {error}") from error
        outputs[row] = interpreter.get_output(0).ravel()
    return outputs


def require_tflm() -> None:
    """Return when TFLM can be used here.

    Raises:
        ReferenceMissingError: it is not installed, or not published for this platform.
    """
    _runtime()


def _interpreter(model: bytes) -> Any:  # noqa: ANN401 - tflite_micro publishes no types
    runtime = _runtime()
    try:
        return runtime.Interpreter.from_bytes(model, arena_size=_ARENA_BYTES)
    except Exception as error:  # the reader of damaged flatbuffers raises struct and index errors of all kinds
        raise InferenceError(
            f"TFLM cannot load the model ({len(model)} bytes): {error}; it must be a full-int8 .tflite of operators "
            "that TFLM has"
        ) from error


def _runtime() -> ModuleType:
    try:
        from tflite_micro import runtime  # noqa: PLC0415 - optional: services that never infer must start without it
    except ImportError as error:
        here = f"{sys.platform} {platform.machine()}"
        if (sys.platform, platform.machine()) == ("linux", "x86_64"):
            step = "it is not installed: pip install 'edgeloop[validators]' (or 'edgeloop[lab]', 'edgeloop[builder]')"
        else:
            step = (
                "TFLM is published for linux x86_64 only: run the artifact builder, the model validator and the device "
                "lab on such a machine"
            )
        raise ReferenceMissingError(f"tflite_micro cannot be imported on {here} ({error}); {step}") from error
    module: ModuleType = runtime
    return module
