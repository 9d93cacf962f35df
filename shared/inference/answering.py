"""The process that the reference runtimes run in: ``python -m shared.inference.answering [CPU_S MEMORY_BYTES]``.

TFLM and LiteRT are C++ that aborts over a tensor it does not like, and reads files that nobody vouches for. So the
questions of one judgement are files in an empty folder, this program answers all of them in turn, and whoever started
it reads answers, or which question the runtime did not survive. Asking and reading are pure functions of the files.
"""

import ctypes
import json
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from shared.events import digest_of
from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceMissingError, ReferenceUnavailableError, RuntimeEndedError
from shared.inference.litert import litert_float_outputs, litert_int8_outputs
from shared.inference.tflm import tflm_outputs

MODULE: Final = "shared.inference.answering"
QUESTIONS_FILE: Final = "questions.json"
ANSWERS_FILE: Final = "answers.json"
BEGUN_FILE: Final = "begun"
"""One byte for each question that the runtime was given."""
FILES_LEFT: Final = (ANSWERS_FILE, BEGUN_FILE)

_PR_SET_PDEATHSIG: Final = 1

CRASHES: Final = frozenset(
    {
        signal.SIGABRT,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGXCPU,
    }
)
"""Signals that a model can bring about. Any other was sent by somebody, or by a kernel short of memory."""


class Runtime(StrEnum):
    """What runs a model."""

    TFLM = "TFLM"
    LITERT = "LiteRT"
    LITERT_FLOAT32 = "LiteRT in float32"

    @classmethod
    def of(cls, numerics: Numerics) -> "Runtime":
        """Return the runtime that a family of numerics is named after."""
        return cls.LITERT if numerics is Numerics.LITERT else cls.TFLM


_RUN: Final[Mapping[Runtime, Callable[[bytes, npt.NDArray[Any]], npt.NDArray[Any]]]] = {
    Runtime.TFLM: tflm_outputs,
    Runtime.LITERT: litert_int8_outputs,
    Runtime.LITERT_FLOAT32: litert_float_outputs,
}


@dataclass(frozen=True, slots=True)
class Question:
    """A model, and the rows to run through it."""

    runtime: Runtime
    model: bytes
    inputs: npt.NDArray[Any]
    """Shape (rows, *input shape); int8, or float32 for `Runtime.LITERT_FLOAT32`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question gave: the shape of its outputs, or why there are none."""

    shape: tuple[int, ...] = ()
    error: str = ""
    missing: str = ""

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else -1


_ANSWERS: Final = TypeAdapter(list[Answer])


def written(questions: Sequence[Question]) -> dict[str, bytes]:
    """Return the files that ask `questions`."""
    files = {QUESTIONS_FILE: json.dumps([question.runtime for question in questions]).encode()}
    for index, question in enumerate(questions):
        inputs = BytesIO()
        np.save(inputs, question.inputs, allow_pickle=False)
        files |= {_model_file(index): question.model, _inputs_file(index): inputs.getvalue()}
    return files


def main(arguments: list[str]) -> int:
    """Answer the questions of the working directory; return 0 when there is an answer, an error included."""
    if arguments:  # a sandbox has limits of its own
        _limit(*map(int, arguments))
    answers: list[Answer] = []
    for index, name in enumerate(json.loads(Path(QUESTIONS_FILE).read_bytes())):
        with Path(BEGUN_FILE).open("ab") as begun:
            begun.write(b".")
        model = Path(_model_file(index)).read_bytes()
        inputs = np.load(_inputs_file(index), allow_pickle=False)
        try:
            outputs = _RUN[Runtime(name)](model, inputs)
        except InferenceError as error:
            answers.append(Answer(error=str(error)))
            break
        except ReferenceMissingError as error:
            answers.append(Answer(missing=str(error)))
            break
        Path(outputs_file(index)).write_bytes(outputs.tobytes())
        answers.append(Answer(outputs.shape))
    Path(ANSWERS_FILE).write_bytes(_ANSWERS.dump_json(answers))
    return 0


def _limit(cpu_s: int, memory_bytes: int) -> None:
    """Bound this process, and let it die with the thread that started it."""
    limits = ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, memory_bytes))
    for which, value in limits:
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def read(
    questions: Sequence[Question], files: Mapping[str, bytes], exit_code: int, last_lines: tuple[str, ...]
) -> list[npt.NDArray[Any]]:
    """Return the output tensors of each question, shape (rows, classes).

    Args:
        questions: what was asked.
        files: what the process left: `FILES_LEFT` and each question's `outputs_file`, as far as they are there.
        exit_code: of the process; negative: the signal that ended it.
        last_lines: what it said last.

    Raises:
        InferenceError: a runtime cannot run a model, or (`RuntimeEndedError`) ended over it.
        ReferenceMissingError: a runtime is not installed.
        ReferenceUnavailableError: the process was ended from outside.
    """
    if exit_code:
        raise _ended(questions, files, exit_code, last_lines)
    try:
        answers = _ANSWERS.validate_json(files.get(ANSWERS_FILE, b""))
    except ValidationError as error:
        raise _ended(questions, files, exit_code, last_lines) from error
    outputs = []
    for index, (question, answer) in enumerate(zip(questions, answers, strict=False)):
        if answer.error:
            raise InferenceError(answer.error)
        if answer.missing:
            raise ReferenceMissingError(answer.missing)
        content = files.get(outputs_file(index), b"")
        if answer.rows != len(question.inputs) or prod(answer.shape) * question.inputs.itemsize != len(content):
            break
        outputs.append(np.frombuffer(content, question.inputs.dtype).reshape(answer.shape))
    if len(outputs) < len(questions):
        raise _ended(questions, files, exit_code, last_lines)
    return outputs


def outputs_file(index: int) -> str:
    """Return the name of the file with the output tensors of a question."""
    return f"outputs-{index}"


def _ended(
    questions: Sequence[Question], files: Mapping[str, bytes], exit_code: int, last_lines: tuple[str, ...]
) -> InferenceError | ReferenceUnavailableError:
    """Return the error of a process that left without a whole answer: the model's fault, or the machine's."""
    at = min(max(len(files.get(BEGUN_FILE, b"")), 1), len(questions)) - 1
    question = questions[at]
    digest, said = digest_of(question.model), f" It said last: {last_lines[-1]}" if last_lines else ""
    if exit_code < 0 and -exit_code not in CRASHES:
        return ReferenceUnavailableError(
            f"{question.runtime} was ended from outside with {_named(-exit_code)} while it ran model {digest}. "
            "Next: look for the kernel's OOM killer, and free some memory"
        )
    ended = f"ends with {_named(-exit_code)}" if exit_code < 0 else f"leaves no result (exit code {exit_code})"
    return RuntimeEndedError(
        f"{question.runtime} {ended} on model {digest} ({len(question.model)} bytes). {_hint(exit_code)}.{said}",
        model=digest,
        signal=-exit_code if exit_code < 0 else None,
        last_lines=last_lines,
    )


def _hint(exit_code: int) -> str:
    if exit_code == -signal.SIGABRT:
        return (
            "A tensor's scale is often too small or too large, as after training on constant data. Next: look at the "
            "training data, then at the model's tensors"
        )
    if exit_code == -signal.SIGXCPU:
        return "It took more processor time than any model for a microcontroller. Next: look for a loop without end"
    return "Next: run the model on your own machine, and make its file again"


def _named(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _model_file(index: int) -> str:
    return f"model-{index}.tflite"


def _inputs_file(index: int) -> str:
    return f"inputs-{index}.npy"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
