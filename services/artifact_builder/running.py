"""Runs a model in its reference runtime: ``python -m services.artifact_builder.running NUMERICS``.

Always in a process of its own: the runtimes are C++ that ends its process over a tensor it does not like, and reads
a file that nobody vouches for. It reads MODEL_FILE and INPUTS_FILE in its working directory, and writes OUTPUTS_FILE.
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.artifact_builder.errors import AuthorError
from services.artifact_builder.programs import Room, how_it_ended, inside
from services.artifact_builder.sandbox.processes import Ended, Limits
from shared.events.lab import Numerics
from shared.inference import InferenceError
from shared.inference.reference import reference_outputs

MODEL_FILE: Final = "model.tflite"
INPUTS_FILE: Final = "inputs.npy"
OUTPUTS_FILE: Final = "outputs.int8"
"""The output tensors, one after the other."""
PROBLEM_FILE: Final = "problem.txt"
_ROOT: Final = Path(__file__).parents[2]
_NAMES: Final = {Numerics.TFLM: "TFLM", Numerics.LITERT: "LiteRT"}


def main(arguments: list[str]) -> int:
    """Run the model; return 0, or 1 with PROBLEM_FILE written."""
    try:
        outputs = reference_outputs(
            Numerics(arguments[0]), Path(MODEL_FILE).read_bytes(), np.load(INPUTS_FILE, allow_pickle=False)
        )
    except InferenceError as error:
        Path(PROBLEM_FILE).write_text(str(error), "utf-8")
        return 1
    Path(OUTPUTS_FILE).write_bytes(outputs.tobytes())
    return 0


async def outputs_of(
    numerics: Numerics, model: bytes, inputs: npt.NDArray[np.int8], room: Room
) -> npt.NDArray[np.int8]:
    """Run every row of `inputs` through the reference runtime, in a sandbox; it may end as it likes.

    Returns:
        The output tensors, shape (rows, classes).

    Raises:
        AuthorError: the runtime cannot run the model, or ends over it.
        InfrastructureError: as `Room.run`.
    """
    (room.output / MODEL_FILE).write_bytes(model)
    np.save(room.output / INPUTS_FILE, inputs)
    limits = room.host.limits(room.host.conversion_timeout_s)
    command = [sys.executable, "-m", "services.artifact_builder.running", numerics]
    ended = await room.run(command, limits, cwd=room.output, told={"PYTHONPATH": _ROOT})
    found = {
        name: path.read_bytes()
        for name in (OUTPUTS_FILE, PROBLEM_FILE)
        if (path := inside(room.output, name)) and path.is_file()
    }
    if not ended.succeeded:
        if problem := found.get(PROBLEM_FILE):
            raise AuthorError(problem.decode(errors="replace"), ended.last_lines)
        raise AuthorError(_crash(numerics, ended, limits), ended.last_lines)
    outputs = np.frombuffer(found.get(OUTPUTS_FILE, b""), np.int8)
    if not outputs.size or outputs.size % len(inputs):
        raise AuthorError(
            f"{_NAMES[numerics]} left {outputs.size} bytes for {len(inputs)} inputs of this model, which is no result. "
            "Next: report it with the model file"
        )
    return outputs.reshape(len(inputs), -1)


def _crash(numerics: Numerics, ended: Ended, limits: Limits) -> str:
    name = _NAMES[numerics]
    if ended.exit_code is None or ended.exit_code >= 0:
        return f"{name}, running this model, {how_it_ended(ended, limits)}"
    return (
        f"{name} ends with signal {-ended.exit_code} on this model. A tensor's scale is often too small or too large, "
        f"as after training on constant data. Next: look at the training data, and at {name}'s last lines"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
