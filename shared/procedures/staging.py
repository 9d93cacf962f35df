"""Staging: smoke test, then every row, and what came of it as data. Whoever ordered it judges.

What a release has to reach (its gates and budgets) is no matter of the board: the same run may be judged again.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from shared.emulation import EmulationError
from shared.emulation.mcuboot_image import ImageFormatError
from shared.emulation.qemu_process import EmulatorMissingError
from shared.procedures import Rig, Workload, parity, smoke
from shared.procedures.acceptance import score_of

NAME: Final = "staging"
"""Of the procedure, beside those of `shared.procedures.table`, which judge themselves."""
_AS_TEXT: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", extra="ignore")


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """The smoke test on another emulator."""

    __pydantic_config__: ClassVar[ConfigDict] = _AS_TEXT

    emulator: str
    output: bytes
    instructions: int | None


@dataclass(frozen=True, slots=True)
class BoardRun:
    """What one board did with one firmware image.

    Attributes:
        fault: Why the board stopped, with its program counter and the row; empty when it ran to the end.
        instructions: Of the golden vector's inference; 0 where nothing counts them.
        inputs: Rows that were answered; `correct` and `mismatches` count among them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _AS_TEXT

    board: str
    emulator: str = ""
    fault: str = ""
    model_digest: str = ""
    golden_output: bytes = b""
    instructions: int = 0
    inputs: int = 0
    correct: int = 0
    mismatches: int = 0
    first_mismatch: parity.Mismatch | None = None
    stack_bytes: int = 0
    seconds: float = 0.0
    second_opinion: SecondOpinion | None = None


_JSON: Final = TypeAdapter(BoardRun)


def write_run(run: BoardRun) -> bytes:
    """Return the JSON of a run."""
    return _JSON.dump_json(run)


def read_run(report: bytes) -> BoardRun:
    """Return the run that `write_run` wrote.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _JSON.validate_json(report)


def observe(workload: Workload, rig: Rig, *, clock: Callable[[], float] = time.monotonic) -> BoardRun:
    """Boot, ask for the golden vector, boot again and ask for every row. A board that faults is a finding, too.

    Raises:
        EmulatorMissingError: there is nothing to run it on.
    """
    started_s = clock()
    run = BoardRun(board=workload.board.name)
    try:
        run = _golden(run, workload, rig)
        run = _every_row(run, workload, rig)
    except EmulatorMissingError:
        raise
    except (EmulationError, ImageFormatError) as error:
        run = replace(run, fault=str(error))
    return replace(run, seconds=clock() - started_s)


def sound(run: BoardRun, workload: Workload) -> bool:
    """Tell whether it ran to the end, with the right model and the reference's bits."""
    return not run.fault and run.model_digest == workload.model_digest and run.mismatches == 0


def golden_of(workload: Workload) -> bytes:
    """Return the input that is asked first."""
    return workload.inputs[0].tobytes() if workload.golden_input is None else workload.golden_input


def _golden(run: BoardRun, workload: Workload, rig: Rig) -> BoardRun:
    with closing(rig.boot_counting()) as board:
        found = smoke.observe(board, golden_of(workload))
    return replace(
        run,
        emulator=found.emulator,
        model_digest=found.model_digest,
        golden_output=found.output,
        instructions=found.instructions or 0,
    )


def _every_row(run: BoardRun, workload: Workload, rig: Rig) -> BoardRun:
    with closing(rig.boot()) as board:
        outputs = parity.answers(board, workload.inputs)
        stack_bytes = board.stack_bytes()
    compared = parity.compare(outputs, workload.expected)
    return replace(
        run,
        inputs=compared.inputs,
        correct=0 if workload.labels is None else score_of(outputs, workload.labels).correct,
        mismatches=compared.mismatches,
        first_mismatch=compared.first,
        stack_bytes=stack_bytes,
    )
