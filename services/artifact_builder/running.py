"""Runs a model in its reference runtime inside a build's sandbox: it reads a file that nobody vouches for."""

import sys
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.artifact_builder.errors import AuthorError
from services.artifact_builder.programs import Room, how_it_ended, inside
from services.artifact_builder.sandbox.processes import Ending
from shared.events.lab import Numerics
from shared.inference import InferenceError
from shared.inference.answering import FILES_LEFT, MODULE, Question, Runtime, outputs_file, read, written

_ROOT: Final = Path(__file__).parents[2]


async def outputs_of(
    numerics: Numerics, model: bytes, inputs: npt.NDArray[np.int8], room: Room
) -> npt.NDArray[np.int8]:
    """Run every row of `inputs` through the reference runtime; it may end as it likes.

    Returns:
        The output tensors, shape (rows, classes).

    Raises:
        AuthorError: the runtime cannot run the model, or ends over it.
        InfrastructureError: as `Room.run`.
        shared.inference.ReferenceUnavailableError: the runtime is missing, or was ended from outside.
    """
    question = Question(Runtime.of(numerics), model, inputs)
    for name, content in written([question]).items():
        (room.output / name).write_bytes(content)
    limits = room.host.limits(room.host.conversion_timeout_s)
    ended = await room.run([sys.executable, "-m", MODULE], limits, cwd=room.output, told={"PYTHONPATH": _ROOT})
    if ended.ending is not Ending.EXITED or ended.exit_code is None:
        raise AuthorError(f"{question.runtime}, running this model, {how_it_ended(ended, limits)}", ended.last_lines)
    files = {
        name: path.read_bytes()
        for name in (*FILES_LEFT, outputs_file(0))
        if (path := inside(room.output, name)) and path.is_file()
    }
    try:
        [outputs] = read([question], files, ended.exit_code, ended.last_lines)
    except InferenceError as error:
        raise AuthorError(str(error), ended.last_lines) from error
    return outputs
