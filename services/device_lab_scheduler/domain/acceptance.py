"""The gates of a release on boards: what each board did, judged.

Smoke test: it boots, says which model it carries, and answers the golden vector with the promised bits. Acceptance
test: every row of the test set, compared bit by bit with TFLM, and the accuracy, the RAM and the stack that came of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.boards import ImageBoard, image_boards
from shared.boards.modelling import modelled_energy, modelled_latency
from shared.events import Check, CheckOutcome
from shared.events.lab import BoardClass, BoardResult, CandidateAccepted, CandidateRefused, Numerics, Parity
from shared.procedures import acceptance, parity, smoke
from shared.procedures.staging import BoardRun, SecondOpinion
from shared.releases.gates import explain, outcome, passes
from shared.releases.manifest import Budget, Gates

INSTRUCTIONS_TOLERANCE: Final = 0.001
"""Between emulators: QEMU's count is read off a timer, whose tick is 5/8 of an instruction."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a board's run is held against."""

    board: ImageBoard
    budget: Budget
    gates: Gates
    model_digest: str
    golden_output: bytes
    flash_bytes: int
    static_ram_bytes: int
    numerics: Numerics = Numerics.TFLM


def judge_candidate(
    project: str, digest: str, runs: Sequence[tuple[BoardRun, Expectation]], growth: Sequence[Check] = ()
) -> CandidateAccepted | CandidateRefused:
    """Return the lab's last word on a release, from all of its boards with an image, and how instructions grew."""
    judged = tuple(check for run, expected in runs for check in judge_board(run, expected)) or (_nothing_ran(),)
    checks = (*judged, *growth)
    results = tuple(measured(run, expected) for run, expected in runs if not run.fault)
    if passes(checks):
        return CandidateAccepted(project=project, digest=digest, boards=results, checks=checks)
    return CandidateRefused(project=project, digest=digest, reason=explain(checks), boards=results, checks=checks)


def not_runnable(project: str, digest: str, said: str) -> CandidateRefused:
    """Return the lab's word on a release whose model no reference runtime runs: there is nothing to compare with."""
    check = Check(
        name="runs-in-reference",
        outcome=CheckOutcome.FAILED,
        observed=said,
        allowed="a model that its reference runtime runs",
        detail="correct the model as said, and push again",
    )
    return CandidateRefused(project=project, digest=digest, reason=explain((check,)), checks=(check,))


def judge_board(run: BoardRun, expected: Expectation) -> tuple[Check, ...]:
    """Return the answers of one board's gates; a board that faulted has only that to say."""
    if run.fault:
        return (_ran_to_the_end(run),)
    opinion = run.second_opinion
    board = expected.board
    smoked = smoke.SmokeRun(run.emulator, run.model_digest, run.golden_output, run.instructions)
    compared = parity.ParityRun(run.inputs, run.mismatches, run.first_mismatch)
    budget = (expected.budget.ram_bytes, f"budgets.{run.board}.ram_bytes")
    return (
        _ran_to_the_end(run),
        *smoke.judge(run.board, smoked, model_digest=expected.model_digest, output=expected.golden_output),
        parity.judge(run.board, compared, expected.numerics),
        acceptance.judge_accuracy(run.board, acceptance.Score(run.correct, run.inputs), expected.gates.accuracy),
        acceptance.judge_stack(board, run.stack_bytes),
        acceptance.judge_ram(board, expected.static_ram_bytes, run.stack_bytes, budget),
        *((_cross_check(run, opinion),) if opinion else ()),
    )


def _nothing_ran() -> Check:
    """A release of libraries alone: what nobody ran, nobody may roll out."""
    return Check(
        name="image-to-test",
        outcome=CheckOutcome.INSUFFICIENT_EVIDENCE,
        observed="no board of the release has an image",
        allowed="an image for at least one board",
        detail=f"add one that is emulated to boards in edgeloop.yaml: {', '.join(image_boards())}",
    )


def measured(run: BoardRun, expected: Expectation) -> BoardResult:
    """Return what a completed run measured, as the event says it. Latency and energy are modelled from its count."""
    latency = modelled_latency(run.instructions, expected.board)
    energy = modelled_energy(latency, expected.board)
    return BoardResult(
        board=run.board,
        board_class=BoardClass.EMULATED,
        emulator=run.emulator,
        flash_bytes=expected.flash_bytes,
        ram_bytes=expected.static_ram_bytes + run.stack_bytes,
        stack_bytes=run.stack_bytes,
        instructions=run.instructions,
        accuracy=run.correct / run.inputs if run.inputs else 0.0,
        inputs=run.inputs,
        mismatches=run.mismatches,
        parity=Parity.DIFFERS if run.mismatches else Parity.BIT_EXACT,
        numerics=expected.numerics,
        seconds=round(run.seconds, 3),
        latency_ms=latency.rounded,
        latency_class=latency.origin,
        latency_basis=latency.basis,
        energy_uj=energy.rounded,
        energy_class=energy.origin,
        energy_basis=energy.basis,
    )


def _ran_to_the_end(run: BoardRun) -> Check:
    return Check(
        name=f"runs-{run.board}",
        outcome=outcome(not run.fault),
        observed=run.fault or f"booted and answered {run.inputs} inputs ({run.emulator})",
        allowed="boots and answers every input without a fault",
        detail=f"find the program counter in the release's {run.board} ELF (arm-none-eabi-addr2line -fe)"
        if run.fault
        else "",
    )


def _cross_check(run: BoardRun, opinion: SecondOpinion) -> Check:
    counted = opinion.instructions
    near = counted is None or abs(counted - run.instructions) <= INSTRUCTIONS_TOLERANCE * run.instructions
    agrees = opinion.output == run.golden_output and near
    return Check(
        name=f"cross-check-{run.board}",
        outcome=outcome(agrees),
        observed=f"{opinion.emulator}: output {opinion.output.hex()}, {counted} instructions",
        allowed=f"{run.emulator}'s output {run.golden_output.hex()}, {run.instructions} instructions within "
        f"{INSTRUCTIONS_TOLERANCE:.1%}",
        detail=""
        if agrees
        else "the emulators disagree: the firmware relies on something that one of them models otherwise",
    )
