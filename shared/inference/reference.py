"""Which runtime says what the right bits are."""

import numpy as np
import numpy.typing as npt

from shared.events.lab import Numerics
from shared.inference.litert import litert_int8_outputs
from shared.inference.tflm import tflm_outputs


def reference_outputs(numerics: Numerics, model: bytes, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Run every row of `inputs` through the runtime that a family of numerics is named after.

    Arguments, result and errors are those of `tflm_outputs` and `litert_int8_outputs`.
    """
    run = litert_int8_outputs if numerics is Numerics.LITERT else tflm_outputs
    return run(model, inputs)
