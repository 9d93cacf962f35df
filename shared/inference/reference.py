"""Asks the reference runtimes what the right bits are, in a process of their own that may end as it likes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.events.lab import Numerics
from shared.inference import ReferenceUnavailableError
from shared.inference.answering import FILES_LEFT, MODULE, Question, Runtime, outputs_file, read, written

_SAID_FILE: Final = "said"
_SAID_BYTES: Final = 4096
_LINES: Final = 10
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH")

_START_S: Final = 60
_ROW_S: Final = 1
"""Of processor time. The slowest models of the MLPerf Tiny benchmarks take a tenth of it."""
_PATIENCE: Final = 10
"""How often the processor time may pass on the clock: machines are shared."""
_MEMORY_BYTES: Final = 4 * 2**30
"""Beside the inputs, which the process holds as well."""


def reference_outputs(numerics: Numerics, model: bytes, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Run every row of `inputs` through the runtime that a family of numerics is named after.

    Returns:
        The output tensors, shape (rows, classes).

    Raises:
        As `answers` does.
    """
    return answers([Question(Runtime.of(numerics), model, inputs)])[0]


def answers(questions: Sequence[Question]) -> list[npt.NDArray[Any]]:
    """Run models in one process of limited processor time and memory, that sees none of this one's secrets.

    Returns:
        The output tensors of each question, shape (rows, classes).

    Raises:
        InferenceError: a runtime cannot run a model, or inputs do not fit it; `RuntimeEndedError` when it crashed.
        ReferenceUnavailableError: this machine gives no answer, `ReferenceMissingError` because a runtime is missing.
    """
    cpu_s = _START_S + _ROW_S * sum(len(question.inputs) for question in questions)
    memory_bytes = _MEMORY_BYTES + 2 * sum(question.inputs.nbytes for question in questions)
    with tempfile.TemporaryDirectory(prefix="edgeloop-reference-") as name:
        folder = Path(name)
        for file, content in written(questions).items():
            (folder / file).write_bytes(content)
        exit_code = _run(folder, cpu_s, memory_bytes)
        names = (*FILES_LEFT, *(outputs_file(index) for index in range(len(questions))))
        files = {name: path.read_bytes() for name in names if (path := folder / name).is_file()}
        return read(questions, files, exit_code, _last_lines(folder / _SAID_FILE))


def _run(folder: Path, cpu_s: int, memory_bytes: int) -> int:
    """Answer the questions in `folder`; return the exit code."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
    with (folder / _SAID_FILE).open("wb") as said:
        try:
            return subprocess.run(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", MODULE, str(cpu_s), str(memory_bytes)],
                cwd=folder,
                env=inherited | ours,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=cpu_s * _PATIENCE,
                start_new_session=True,  # Ctrl-C is for whoever asks
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ReferenceUnavailableError(
                f"the reference runtime got less than {cpu_s} s of processor time within {error.timeout:g} s. "
                "Next: give this machine less to do"
            ) from error
        except OSError as error:
            raise ReferenceUnavailableError(f"the reference runtime cannot be started: {error}") from error


def _last_lines(said: Path) -> tuple[str, ...]:
    with said.open("rb") as file:
        file.seek(max(said.stat().st_size - _SAID_BYTES, 0))
        lines = (line.strip() for line in file.read().decode(errors="replace").splitlines())
    return tuple(line for line in lines if line)[-_LINES:]
