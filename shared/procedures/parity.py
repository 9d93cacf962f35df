"""Parity: every output vector is the reference runtime's, bit by bit."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.emulation import EmulatedBoard, EmulationError
from shared.events import Check
from shared.events.lab import Numerics
from shared.procedures import Effort, Report, Rig, Workload
from shared.releases.gates import outcome


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An output vector that differs from the reference, in hexadecimal digits."""

    row: int
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class ParityRun:
    """How many output vectors differ among those compared."""

    inputs: int
    mismatches: int
    first: Mismatch | None


def run(workload: Workload, rig: Rig, _effort: Effort) -> Report:
    """Run every row, and compare."""
    with closing(rig.boot()) as board:
        found = compare(answers(board, workload.inputs), workload.expected)
        check = judge(workload.board.name, found, workload.numerics)
        figures = {"inputs": found.inputs, "mismatches": found.mismatches}
        return Report("parity", workload.board.name, board.emulator, (check,), figures)


def answers(
    board: EmulatedBoard,
    inputs: npt.NDArray[np.int8],
    *,
    first: int = 0,
    before: Callable[[int], None] | None = None,
) -> list[bytes]:
    """Return the board's output for every row; `before` is called with each row's number and may give up by raising.

    `first` is the number of the first row, where `inputs` are some of many.

    Raises:
        EmulationError: the board faulted or hung; the message names the row.
    """
    outputs = []
    for row, window in enumerate(inputs, start=first):
        if before is not None:
            before(row)
        try:
            outputs.append(board.infer(window.tobytes()).output)
        except EmulationError as error:
            raise EmulationError(f"test row {row}: {error}") from error
    return outputs


def compare(outputs: list[bytes], expected: npt.NDArray[np.int8]) -> ParityRun:
    """Count the vectors that differ in at least one bit."""
    differ = [
        Mismatch(row, right.tobytes().hex(), output.hex())
        for row, (output, right) in enumerate(zip(outputs, expected, strict=True))
        if output != right.tobytes()
    ]
    return ParityRun(len(outputs), len(differ), differ[0] if differ else None)


def judge(board: str, run: ParityRun, numerics: Numerics) -> Check:
    """Allow no difference."""
    first = run.first
    return Check(
        name=f"parity-{board}",
        outcome=outcome(run.mismatches == 0, rows=run.inputs),
        observed=f"{run.mismatches} of {run.inputs} output vectors differ from {numerics}",
        allowed="0, bit by bit",
        detail=f"test row {first.row}: {first.found} instead of {first.expected}; compare the layers of this row"
        if first
        else "",
    )
