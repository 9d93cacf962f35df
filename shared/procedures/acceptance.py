"""The acceptance test: what the firmware's own answers are worth, and what it takes.

Accuracy comes with Wilson's 95 % interval, RAM with the stack's high-water mark by painting; instructions are counted.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.boards import ImageBoard
from shared.events import Check
from shared.procedures import Effort, ProcedureError, Report, Rig, Workload, parity, smoke
from shared.releases.gates import ROUNDING, outcome, wilson_interval


@dataclass(frozen=True, slots=True)
class Score:
    """How many rows were answered as they are labelled."""

    correct: int
    rows: int

    @property
    def accuracy(self) -> float:
        """Share of the rows; 0 of none."""
        return self.correct / self.rows if self.rows else 0.0

    def __str__(self) -> str:
        """Return the share with what it is made of."""
        low, high = wilson_interval(self.correct, self.rows)
        return f"{self.accuracy:.4f} ({self.correct} of {self.rows}; 95 % interval {low:.4f} to {high:.4f})"


def run(workload: Workload, rig: Rig, _effort: Effort) -> Report:
    """Run every row on the board, and judge its answers, its bits and its memory."""
    if workload.labels is None:
        raise ProcedureError("accuracy needs the class of every input: give labels")
    board = workload.board
    with closing(rig.boot_counting()) as counting:
        smoked = smoke.observe(counting, workload.inputs[0].tobytes())
    with closing(rig.boot()) as running:
        outputs = parity.answers(running, workload.inputs)
        stack_bytes = running.stack_bytes()
    score, compared = score_of(outputs, workload.labels), parity.compare(outputs, workload.expected)
    golden = workload.expected[0].tobytes()
    checks = (
        *smoke.judge(board.name, smoked, model_digest=workload.model_digest, output=golden),
        parity.judge(board.name, compared, workload.numerics),
        *((judge_accuracy(board.name, score, workload.accuracy),) if workload.accuracy is not None else ()),
        judge_stack(board, stack_bytes),
        judge_ram(board, workload.static_ram_bytes, stack_bytes, (workload.ram_bytes, "what was asked")),
    )
    low, high = wilson_interval(score.correct, score.rows)
    return Report(
        "acceptance",
        board.name,
        smoked.emulator,
        checks,
        {
            "accuracy": round(score.accuracy, 6),
            "accuracy_interval": [round(low, 6), round(high, 6)],
            "inputs": score.rows,
            "mismatches": compared.mismatches,
            "ram_bytes": workload.static_ram_bytes + stack_bytes,
            "stack_bytes": stack_bytes,
            "instructions": smoked.instructions,
        },
    )


def score_of(outputs: Sequence[bytes], labels: npt.NDArray[np.int64]) -> Score:
    """Count the rows whose largest output, the first of equals, is the label's."""
    answered = [int(np.argmax(np.frombuffer(output, np.int8))) for output in outputs]
    return Score(sum(int(label) == found for label, found in zip(labels, answered, strict=True)), len(answered))


def judge_accuracy(board: str, score: Score, wanted: float) -> Check:
    """Hold the share of right answers against the gate; the interval tells how far it may be from the truth."""
    reached = score.accuracy >= wanted - ROUNDING
    return Check(
        name=f"accuracy-{board}",
        outcome=outcome(reached, rows=score.rows),
        observed=str(score),
        allowed=f"at least {wanted:g} (gates.accuracy)",
        detail="" if reached else "if parity holds, the model itself is not accurate enough",
    )


def judge_stack(board: ImageBoard, stack_bytes: int) -> Check:
    """Allow less than what is reserved: a stack that is full may have run over."""
    fits = stack_bytes < board.stack_bytes
    return Check(
        name=f"stack-{board.name}",
        outcome=outcome(fits),
        observed=f"{stack_bytes} bytes at the high-water mark",
        allowed=f"less than the {board.stack_bytes} bytes reserved",
        detail="" if fits else "it may have run over: move large locals of the kernels into the arena",
    )


def judge_ram(board: ImageBoard, static_bytes: int, stack_bytes: int, budget: tuple[int | None, str]) -> Check:
    """Allow what the board has, or less where a budget (and the name of what sets it) says so."""
    needed = static_bytes + stack_bytes
    limit, source = budget
    if limit is None or limit > board.ram_bytes:
        limit, source = board.ram_bytes, "the board's RAM"
    fits = needed <= limit
    return Check(
        name=f"ram-{board.name}",
        outcome=outcome(fits),
        observed=f"{needed} bytes: {static_bytes} static and {stack_bytes} of stack",
        allowed=f"at most {limit} bytes ({source})",
        detail=""
        if fits
        else f"{needed - limit} bytes too many: smaller activations, or leave the board out of boards",
    )
