"""A model file as commands take it: read, and asked for the bits that firmware must give."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeloop.errors import InfrastructureError, UsageError
from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.graph import Tensor
from services.artifact_builder.codegen.reader import read_graph
from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceUnavailableError
from shared.inference.reference import reference_outputs


def ends_of(model: Path, tflite: bytes) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a model that has one of each.

    Raises:
        UsageError: it is damaged, uses what there is no kernel for, or has more of them.
    """
    try:
        graph = read_graph(tflite)
        ends = graph.input, graph.output
    except (MalformedModelError, UnsupportedModelError) as error:
        raise UsageError(f"{model}: {error}") from error
    return ends


def reference_answers(
    model: Path, tflite: bytes, numerics: Numerics, tensors: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """Return the reference runtime's output vector of each input, shape (inputs, output bytes).

    Raises:
        UsageError: the model is at fault.
        InfrastructureError: there is no reference on this machine.
    """
    try:
        return reference_outputs(numerics, tflite, tensors)
    except InferenceError as error:
        raise UsageError(f"{model}: {error}") from error
    except ReferenceUnavailableError as error:
        raise InfrastructureError(f"{model}: {error}") from error
