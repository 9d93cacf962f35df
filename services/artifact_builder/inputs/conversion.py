"""From a model to .tflite, float32 and full int8: ``python -m services.artifact_builder.inputs.conversion REQUEST``.

Always in a process of its own: it imports TensorFlow, which costs seconds and half a gigabyte, and reads files that
nobody vouches for.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.artifact_builder.determinism import TENSORFLOW_ENVIRONMENT, THREADS
from services.artifact_builder.inputs.corrections import corrected
from services.artifact_builder.inputs.problems import ModelError, first_line, unknown_operators
from services.artifact_builder.inputs.quantised import named_islands, not_quantised
from services.artifact_builder.inputs.representative import Representative, RowsError, representative
from shared.releases.model_formats import ModelFormat

REQUEST_FILE: Final = "request.json"
FLOAT32_FILE: Final = "float32.tflite"
INT8_FILE: Final = "int8.tflite"
SOURCE_FILE: Final = "source"
"""The model that was given, in canonical form; only where reading it took a heavy package."""
RESULT_FILE: Final = "result.json"
"""``{"recipe": Recipe, "conversion": Conversion}`` of `shared.releases.release`."""
_ATTEMPTS: Final = 8
_LEFT_BY_CHANCE: Final = ", SPLIT, "
"""The quantiser walks through operators in the order of their addresses, and now and then leaves a SPLIT as it was."""
_LOOPS: Final = frozenset({"While", "StatelessWhile"})
PROBLEM_FILE: Final = "problem.txt"
"""What is wrong with the model, in one line for its author."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert. Files are relative to the process's working directory, and so is what it writes."""

    model: str
    format: ModelFormat
    train: str
    """The training data, .npz of x and y."""
    seed: int
    classes: int

    def write(self, folder: Path) -> None:
        """Write REQUEST_FILE into `folder`."""
        (folder / REQUEST_FILE).write_text(json.dumps(dataclasses.asdict(self)), "utf-8")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as a function of TensorFlow, and what is to be compared and recorded of its source."""

    function: Callable[..., Any]
    canonical: Callable[[Any], bytes] | None = None
    """From the frozen graph to the model's canonical form, where that takes a heavy package."""
    versions: tuple[tuple[str, str], ...] = ()
    compare: Callable[[bytes, Representative], dict[str, Any]] | None = None
    """From the float32 .tflite and the rows to a `shared.releases.release.Parity`."""
    notes: tuple[str, ...] = ()


def main(arguments: list[str]) -> int:
    """Convert; return 0, or 1 with PROBLEM_FILE written."""
    fields = json.loads(Path(arguments[0]).read_text("utf-8"))
    request = Request(**(fields | {"format": ModelFormat(fields["format"])}))
    try:
        convert(request, Path())
    except (ModelError, RowsError) as error:
        Path(PROBLEM_FILE).write_text(str(error), "utf-8")
        return 1
    return 0


def convert(request: Request, folder: Path) -> None:
    """Write FLOAT32_FILE, INT8_FILE, RESULT_FILE, and for some formats SOURCE_FILE, into `folder`.

    Raises:
        ModelError: the file cannot be loaded, its input or output is not the manifest's, or it cannot be quantised.
        RowsError: the training data cannot calibrate it.
    """
    import keras  # noqa: PLC0415 - seconds; whoever only wants the constants above does not pay for it
    import tensorflow as tf  # noqa: PLC0415 - as above

    keras.utils.set_random_seed(request.seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    with np.load(folder / request.train, allow_pickle=False) as arrays:
        rows = representative(arrays["x"].astype(np.float32), arrays["y"], request.train)
    loaded = _loaded(request, folder, rows.x.shape[1:])
    concrete = _traced(loaded.function, rows.x.shape[1:], request.classes)
    graph = _Graph.of(concrete)
    if loaded.canonical:
        (folder / SOURCE_FILE).write_bytes(loaded.canonical(_frozen(concrete)))
    float32 = _float32(graph)
    (folder / FLOAT32_FILE).write_bytes(float32)
    parity = loaded.compare(float32, rows) if loaded.compare else None
    (folder / INT8_FILE).write_bytes(_int8(graph, rows))
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, **dict(loaded.versions)}
    result = {
        "recipe": {**versions, "threads": THREADS, "seed": request.seed},
        "conversion": {"parity": parity, "notes": [*loaded.notes, *rows.notes]},
    }
    (folder / RESULT_FILE).write_text(json.dumps(result), "utf-8")


def _loaded(request: Request, folder: Path, window: tuple[int, ...]) -> Loaded:
    from services.artifact_builder.inputs import loading  # noqa: PLC0415 - as in convert

    file = folder / request.model
    match request.format:
        case ModelFormat.KERAS:
            return Loaded(loading.load_keras(file))
        case ModelFormat.SAVED_MODEL:
            return Loaded(loading.load_saved_model(file), lambda graph: loading.canonical_saved_model(graph, window))
        case ModelFormat.ONNX:
            from services.artifact_builder.inputs.onnx.loading import load_onnx  # noqa: PLC0415 - as in convert

            onnx = load_onnx(file.read_bytes(), window)
            return Loaded(
                onnx.function,
                lambda _: onnx.canonical,
                onnx.versions,
                lambda float32, rows: onnx.compare(float32, rows.x),
            )
        case ModelFormat.TFLITE:
            raise ModelError("a .tflite is taken as it is, or not at all")


@dataclass(frozen=True, slots=True)
class _Graph:
    """What the converter starts from."""

    concrete: Any
    variables: Any = None
    """What holds the variables of a graph that is not frozen."""

    @staticmethod
    def of(concrete: Any) -> "_Graph":  # noqa: ANN401 - no types
        """Freeze a function, unless it calls functions that the converter knows: freezing would dissolve them."""
        import tensorflow as tf  # noqa: PLC0415 - as in convert

        from services.artifact_builder.inputs.recurrent import has_fused  # noqa: PLC0415 - as in convert

        if not has_fused(concrete):
            return _Graph(_frozen(concrete))
        held = tf.Module()
        held.variables_of_graph = concrete.graph.variables
        return _Graph(concrete, held)

    def converter(self) -> Any:  # noqa: ANN401 - as above
        """Return a new converter."""
        import tensorflow as tf  # noqa: PLC0415 - as in convert

        return tf.lite.TFLiteConverter.from_concrete_functions([self.concrete], self.variables)


def _frozen(concrete: Any) -> Any:  # noqa: ANN401 - as above
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - as in convert
        convert_variables_to_constants_v2,
    )

    return convert_variables_to_constants_v2(concrete)


def _traced(function: Callable[..., Any], window: tuple[int, ...], classes: int) -> Any:  # noqa: ANN401 - as above
    """Return the model as a graph for exactly one window: no shapes are left to compute on a board."""
    import tensorflow as tf  # noqa: PLC0415 - as in convert

    try:
        # Without AutoGraph, which would turn our errors into its own: models are layers, no Python to rewrite.
        traced = tf.function(function, autograph=False)
        concrete = traced.get_concrete_function(tf.TensorSpec([1, *window], tf.float32))
    except ModelError:
        raise
    except Exception as error:  # TensorFlow wraps what the layers say in many ways
        raise ModelError(
            f"the model does not take the training data's windows of {window}: {first_line(error)}. "
            "Next: make both agree with input.shape in edgeloop.yaml"
        ) from error
    _require_no_loop(concrete.graph.as_graph_def())
    outputs = concrete.outputs
    if len(outputs) != 1 or tuple(outputs[0].shape) != (1, classes):
        found = ", ".join(str(tuple(tensor.shape)) for tensor in outputs)
        raise ModelError(
            f"the model gives {found} for one window; allowed is one output of (1, {classes}), a score for each label. "
            "Next: correct the last layer, or labels in edgeloop.yaml"
        )
    return concrete


def _require_no_loop(graph: Any) -> None:  # noqa: ANN401 - as above
    """Refuse what no board runs before the converter meets it: it speaks of its own inner lists, or crashes."""
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    loop = next((node for nodes in bodies for node in nodes if node.op in _LOOPS), None)
    if loop is not None:
        raise ModelError(
            f"the node {loop.name} is a loop, {loop.op}; allowed are operators that run once for each window. "
            "Next: give a recurrent model as its .keras file, whose LSTM, GRU and RNN layers are converted as they are"
        )


def _float32(graph: _Graph) -> bytes:
    try:
        return corrected(bytes(graph.converter().convert()))
    except Exception as error:  # the converter raises whatever its C++ says
        what = unknown_operators(error)
        found = f"it has no operator for {what}" if what else first_line(error)
        raise ModelError(
            f"TensorFlow Lite cannot convert the model: {found}. "
            "Next: use convolution, pooling, dense and activation layers that TensorFlow Lite has"
        ) from error


def _int8(graph: _Graph, rows: Representative) -> bytes:
    for _ in range(_ATTEMPTS - 1):
        try:
            return _quantised(graph, rows)
        except ModelError as error:
            if _LEFT_BY_CHANCE not in str(error):
                raise
    return _quantised(graph, rows)


def _quantised(graph: _Graph, rows: Representative) -> bytes:
    """Return the full-int8 model; weights of convolutions have a scale for every channel, as is the default."""
    import tensorflow as tf  # noqa: PLC0415 - as in convert

    def converter(*kernels: Any) -> Any:  # noqa: ANN401 - as above
        made = graph.converter()
        made.optimizations = [tf.lite.Optimize.DEFAULT]
        made.representative_dataset = lambda: ([row[np.newaxis]] for row in rows.x)
        made.target_spec.supported_ops = list(kernels)
        made.inference_input_type = made.inference_output_type = tf.int8
        return made

    try:
        int8 = bytes(converter(tf.lite.OpsSet.TFLITE_BUILTINS_INT8).convert())
    except Exception as error:  # as in _float32
        # Allowed to fall back, the converter shows where it would: what it says itself names no tensor.
        try:
            mixed = converter(tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS).convert()
        except Exception:  # noqa: BLE001 - as above; the first error is the one to report
            mixed = b""
        islands = named_islands(mixed)
        raise ModelError(
            not_quantised(islands)
            if islands
            else f"TensorFlow Lite cannot quantise the model to int8: {first_line(error)}. "
            "Next: use convolution, pooling, dense and activation layers that TensorFlow Lite has in int8"
        ) from error
    if islands := named_islands(int8):
        raise ModelError(not_quantised(islands))
    return corrected(int8)


if __name__ == "__main__":
    os.environ.update(TENSORFLOW_ENVIRONMENT)
    sys.exit(main(sys.argv[1:]))
