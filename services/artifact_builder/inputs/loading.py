"""Keras models and SavedModels as one TensorFlow function. Imports TensorFlow: for the conversion's process only."""

import tempfile
from pathlib import Path
from typing import Any, Final, TypeAlias

from services.artifact_builder.inputs.problems import ModelError, first_line
from services.artifact_builder.inputs.sources import read_source, unpack_saved_model

Function: TypeAlias = Any
"""From one tensor to one tensor, or a list of them. TensorFlow publishes no types."""

_SIGNATURES: Final = ("serving_default", "serve")
_REACHES_OUT: Final = frozenset(
    {
        "EagerPyFunc",
        "LoadAndRemapMatrix",
        "PyFunc",
        "PyFuncStateless",
        "ReadFile",
        "TextLineReaderV2",
        "WholeFileReaderV2",
        "WriteFile",
    }
)
"""Operators that are no arithmetic: a graph that reads and writes files is a program, and loading it may run it."""


def load_keras(file: Path) -> Function:
    """Return a Keras model.

    Raises:
        ModelError: Keras cannot load it, or would have to run code from the file.
    """
    import keras  # noqa: PLC0415 - seconds; whoever only wants this module's names does not pay for it

    from services.artifact_builder.inputs.recurrent import make_convertible, of_constants  # noqa: PLC0415 - as above

    try:
        model = keras.models.load_model(file, compile=False)
    except Exception as error:  # what a file can hold wrong is without end
        raise ModelError(
            f"Keras cannot load the model: {first_line(error)}. Next: save it with model.save('….keras') from layers "
            "of Keras itself; custom layers and lambdas are code, and none is loaded"
        ) from error
    make_convertible(model)
    return of_constants(model)


def load_saved_model(file: Path) -> Function:
    """Return the signature of a packed SavedModel.

    Raises:
        ModelError: TensorFlow cannot load it, it reaches out of itself, or it has no signature of one input.
    """
    import tensorflow as tf  # noqa: PLC0415 - as above

    folder = Path(tempfile.mkdtemp(dir=file.parent))
    unpack_saved_model(file.read_bytes(), folder)
    _require_arithmetic((folder / "saved_model.pb").read_bytes())
    try:
        loaded = tf.saved_model.load(str(folder))
        signatures = dict(loaded.signatures)
    except Exception as error:  # as in load_keras
        raise ModelError(
            f"TensorFlow cannot load the SavedModel: {first_line(error)}. Next: write it with model.export('folder')"
        ) from error
    name = next((name for name in _SIGNATURES if name in signatures), None)
    if name is None:
        found = ", ".join(sorted(signatures)) or "none"
        raise ModelError(
            f"the SavedModel has the signatures {found}; one of {', '.join(_SIGNATURES)} is taken. Next: write it with "
            "model.export('folder'), or tf.saved_model.save(..., signatures=...)"
        )
    function = signatures[name]
    inputs = sorted(function.structured_input_signature[1])
    if len(inputs) != 1:
        raise ModelError(
            f"the SavedModel's signature {name} takes {', '.join(inputs) or 'nothing'}; allowed is one input. "
            "Next: join the inputs inside the model"
        )

    def call(x: Any, alive: Any = loaded) -> list[Any]:  # noqa: ANN401 - as above
        del alive  # only kept: the signature holds its variables weakly
        return list(function(**{inputs[0]: x}).values())

    return call


def canonical_saved_model(graph: Function, window: tuple[int, ...]) -> bytes:
    """Return a frozen graph as a packed SavedModel of its own.

    What `export` wrote cannot be kept: Keras orders variables by their addresses, so no two exports are equal.
    """
    import tensorflow as tf  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signature = tf.function(lambda x: graph(x)[0], input_signature=[tf.TensorSpec([1, *window], tf.float32)])
        tf.saved_model.save(tf.Module(), name, signatures=signature)
        return read_source(folder, f"{name}/").data


def _require_arithmetic(data: bytes) -> None:
    """Raise ModelError unless this is a saved_model.pb whose graphs only compute."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - as above
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415 - as above

    try:
        model = SavedModel.FromString(data)
    except DecodeError as error:
        raise ModelError(
            f"saved_model.pb is corrupt or truncated ({error}). Next: write it with model.export('folder')"
        ) from error
    for meta in model.meta_graphs:
        functions = meta.graph_def.library.function
        nodes = [*meta.graph_def.node, *(node for function in functions for node in function.node_def)]
        for node in nodes:
            if node.op in _REACHES_OUT:
                raise ModelError(
                    f"the SavedModel's node {node.name} is {node.op}, which reaches out of the model; allowed is "
                    "arithmetic. Next: do this in the preprocessing"
                )
