"""From a Keras model to .tflite, float32 and full int8: ``python -m services.artifact_builder.inputs.conversion``.

The only module that imports TensorFlow, always in a process of its own: it costs seconds, and half a gigabyte.
Usage: ``conversion MODEL.keras TRAIN.npz OUTPUT_DIRECTORY SEED CLASSES``.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FLOAT32_FILE: Final = "float32.tflite"
INT8_FILE: Final = "int8.tflite"
RECIPE_FILE: Final = "recipe.json"
"""A `shared.releases.release.Recipe`."""
PROBLEM_FILE: Final = "problem.txt"
"""What is wrong with the model, in one line for its author."""

REPRESENTATIVE_ROWS: Final = 500
THREADS: Final = 1  # the bits of a quantised model depend on TensorFlow's number of threads

TENSORFLOW_ENVIRONMENT: Final = {
    "TF_NUM_INTRAOP_THREADS": str(THREADS),
    "TF_NUM_INTEROP_THREADS": str(THREADS),
    "OMP_NUM_THREADS": str(THREADS),
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


class ModelError(ValueError):
    """The model is not one that can be converted."""


def main() -> int:
    """Convert; return 0, or 1 with PROBLEM_FILE written."""
    model_file, train_file, output = map(Path, sys.argv[1:4])
    try:
        convert(model_file, train_file, output, seed=int(sys.argv[4]), classes=int(sys.argv[5]))
    except ModelError as error:
        (output / PROBLEM_FILE).write_text(str(error), "utf-8")
        return 1
    return 0


def convert(model_file: Path, train_file: Path, output: Path, *, seed: int, classes: int) -> None:
    """Write FLOAT32_FILE and INT8_FILE into `output`.

    Raises:
        ModelError: the file cannot be loaded, its input or output is not the manifest's, or it cannot be quantised.
    """
    import keras  # noqa: PLC0415 - seconds; whoever only wants the constants above does not pay for it
    import tensorflow as tf  # noqa: PLC0415 - as above

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    with np.load(train_file, allow_pickle=False) as arrays:
        rows = _spread(arrays["x"].astype(np.float32))
    recipe = {"tensorflow": tf.__version__, "keras": keras.__version__, "threads": THREADS, "seed": seed}
    (output / RECIPE_FILE).write_text(json.dumps(recipe), "utf-8")
    model = _loaded(model_file)
    graph = _frozen(model, rows.shape[1:], classes)
    try:
        (output / FLOAT32_FILE).write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[np.newaxis]] for row in rows)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        (output / INT8_FILE).write_bytes(converter.convert())
    except Exception as error:  # the converter raises whatever its C++ says
        raise ModelError(
            f"TensorFlow Lite cannot quantise the model to int8: {_first_line(error)}. "
            "Next: use convolution, pooling, dense and activation layers that TensorFlow Lite has in int8"
        ) from error


def _spread(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    picked: npt.NDArray[np.float32] = x[np.linspace(0, len(x) - 1, min(len(x), REPRESENTATIVE_ROWS)).astype(np.int64)]
    return picked


def _loaded(model_file: Path) -> Any:  # noqa: ANN401 - Keras publishes no types
    import keras  # noqa: PLC0415 - as in convert

    try:
        return keras.models.load_model(model_file, compile=False)
    except Exception as error:  # what a file can hold wrong is without end
        raise ModelError(
            f"Keras cannot load the model: {_first_line(error)}. Next: save it with model.save('….keras') from layers "
            "of Keras itself; custom layers and lambdas are code, and none is loaded"
        ) from error


def _frozen(model: Any, window: tuple[int, ...], classes: int) -> Any:  # noqa: ANN401 - as above
    """Return the model as a graph of constants for exactly one window: no shapes are left to compute on a board."""
    import tensorflow as tf  # noqa: PLC0415 - as in convert
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - as in convert
        convert_variables_to_constants_v2,
    )

    function = tf.function(lambda x: model(x, training=False))
    try:
        concrete = function.get_concrete_function(tf.TensorSpec([1, *window], tf.float32))
    except Exception as error:  # TensorFlow wraps what the layers say in many ways
        raise ModelError(
            f"the model takes {getattr(model, 'input_shape', 'another input')}, the training data has windows of "
            f"{window}: {_first_line(error)}. Next: make both agree with input.shape in edgeloop.yaml"
        ) from error
    outputs = concrete.outputs
    if len(outputs) != 1 or tuple(outputs[0].shape) != (1, classes):
        found = ", ".join(str(tuple(tensor.shape)) for tensor in outputs)
        raise ModelError(
            f"the model gives {found} for one window; allowed is one output of (1, {classes}), a score for each label. "
            "Next: correct the last layer, or labels in edgeloop.yaml"
        )
    return convert_variables_to_constants_v2(concrete)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


if __name__ == "__main__":
    os.environ.update(TENSORFLOW_ENVIRONMENT)
    sys.exit(main())
