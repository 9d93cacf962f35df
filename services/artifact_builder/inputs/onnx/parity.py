"""Whether the converted model answers as onnxruntime does with the original."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import tensorflow as tf

from services.artifact_builder.inputs.problems import ModelError, first_line

MAXIMUM_ROWS: Final = 100
_RELATIVE: Final = 1e-4
"""Sums in another order differ by some 1e-6 of the largest value; a wrong weight or axis by much more."""


def compare(
    original: bytes, float32: bytes, x: npt.NDArray[np.float32], given: npt.NDArray[np.float32], output: str
) -> dict[str, Any]:
    """Run both models on the same windows and return a `shared.releases.release.Parity`.

    Args:
        original: The ONNX model.
        float32: What it was converted to, .tflite.
        x: Windows, (rows, *window).
        given: The same windows as the ONNX model takes them.
        output: The name of its scores.

    Raises:
        ModelError: onnxruntime cannot run the original, or the two disagree.
    """
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAXIMUM_ROWS)).astype(np.int64))
    expected = _of_onnxruntime(original, given[rows], output)
    found = _of_tflite(float32, x[rows])
    difference = float(np.abs(expected - found).max())
    tolerance = _RELATIVE * max(1.0, float(np.abs(expected).max()))
    equal = float((expected.argmax(axis=1) == found.argmax(axis=1)).mean())
    if not difference <= tolerance:
        row = int(np.abs(expected - found).max(axis=1).argmax())
        raise ModelError(
            f"the converted model and onnxruntime differ by {difference:.3g} on row {row} of {len(rows)} of the "
            f"training data; allowed is {tolerance:.3g}. Next: report this as a fault of Edgeloop, with the model"
        )
    return {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "rows": len(rows),
        "maximum_difference": difference,
        "tolerance": tolerance,
        "equal_answers": equal,
    }


def _of_onnxruntime(model: bytes, x: npt.NDArray[np.float32], output: str) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([np.asarray(session.run([output], {name: row[np.newaxis]})[0]) for row in x])
    except Exception as error:  # onnxruntime raises errors of its own, without a common base
        raise ModelError(
            f"onnxruntime cannot run the model: {first_line(error)}. Next: check the export with onnxruntime yourself"
        ) from error


def _of_tflite(model: bytes, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    interpreter = tf.lite.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    answers = []
    for row in x:
        interpreter.set_tensor(source, row[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(result).copy())
    return np.concatenate(answers)
