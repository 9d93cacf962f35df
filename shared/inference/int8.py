"""What both reference runtimes ask of an int8 model and its inputs, in the same words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference import InferenceError


def require_int8(
    inputs: npt.NDArray[np.int8], wanted: Mapping[str, Any], produced: Mapping[str, Any]
) -> tuple[int, ...]:
    """Check that a model takes and gives int8, and that `inputs` fit it; return the shape of its input.

    Args:
        inputs: shape (rows, *input shape).
        wanted: the interpreter's details of its input: ``dtype`` and ``shape``.
        produced: the same of its output.

    Raises:
        InferenceError: what does not fit, and what is allowed.
    """
    if inputs.dtype != np.int8:
        raise InferenceError(
            f"inputs are {inputs.dtype}; an int8 model takes int8: quantise them with shared.releases.histograms"
        )
    for place, details in (("input", wanted), ("output", produced)):
        if np.dtype(details["dtype"]) != np.int8:
            raise InferenceError(
                f"the model's {place} tensor is {np.dtype(details['dtype'])}; full int8 is allowed: quantise it fully"
            )
    shape = tuple(int(size) for size in wanted["shape"])
    if inputs[:1].size and inputs[0].size != np.prod(shape):
        raise InferenceError(f"a row of the inputs has shape {inputs.shape[1:]}; the model takes {shape}")
    return shape
