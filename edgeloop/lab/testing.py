"""Runs a procedure on emulated boards of this machine, and says what came of it as a lab job's result."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

from edgeloop.errors import InfrastructureError, UsageError
from edgeloop.lab.subject import Subject
from shared.boards.modelling import Figure, modelled_energy, modelled_latency
from shared.emulation import EmulationError
from shared.emulation.emulators import Emulator
from shared.emulation.on_qemu import EmulatorMissingError
from shared.events import Check, CheckOutcome
from shared.events.lab import BoardClass
from shared.interop.results import JobResult
from shared.lab import VerdictKind
from shared.procedures import Effort, ProcedureError, Report, Rig, Workload
from shared.procedures.rig import emulated_rig
from shared.procedures.table import PROCEDURES
from shared.releases.gates import explain


@dataclass(frozen=True, slots=True)
class Tested:
    """What a procedure found, and the same as a job's result. Latency and energy are None where nothing was counted."""

    report: Report
    result: JobResult
    latency: Figure | None
    energy: Figure | None


def run(subject: Subject, procedure: str, effort: Effort, emulator: Emulator) -> Tested:
    """Run a procedure of `shared.procedures.table`.

    Firmware that faults or hangs failed its test: emulated boards do nothing of that kind by themselves.

    Raises:
        UsageError: the procedure lacks something.
        InfrastructureError: the emulator is not installed.
    """
    board, started = subject.workload.board, time.monotonic()
    rig = emulated_rig(subject.built.image, board, emulator)
    try:
        report, instructions = _ran(subject.workload, rig, procedure, replace(effort, windows=subject.windows))
    except ProcedureError as error:
        raise UsageError(f"--procedure {procedure}: {error}") from error
    except EmulatorMissingError as error:
        raise InfrastructureError(str(error), next_step="leave --emulator out: Unicorn comes with Edgeloop") from error
    result = JobResult(
        job=f"local-{uuid4()}",
        project=subject.project,
        board=board.name,
        board_class=BoardClass.EMULATED,
        digest=subject.digest,
        numerics=subject.workload.numerics,
        toolchain=subject.built.toolchain,
        verdict=VerdictKind.PASSED if report.passed else VerdictKind.FAILED,
        finished=datetime.now(UTC),
        seconds=round(time.monotonic() - started, 3),
        instructions=instructions,
        checks=report.checks,
        reason=explain(report.checks),
    )
    latency = None if instructions is None else modelled_latency(instructions, board)
    return Tested(report, result, latency, None if latency is None else modelled_energy(latency, board))


def with_check(tested: Tested, check: Check) -> Tested:
    """Return the same with one more check, and the verdict that follows."""
    report = replace(tested.report, checks=(*tested.report.checks, check))
    verdict = VerdictKind.PASSED if report.passed else VerdictKind.FAILED
    result = replace(tested.result, checks=report.checks, verdict=verdict, reason=explain(report.checks))
    return replace(tested, report=report, result=result)


def _ran(workload: Workload, rig: Rig, procedure: str, effort: Effort) -> tuple[Report, int | None]:
    """Return the report, and the instructions of an inference, which procedures that do not need them leave out."""
    try:
        report = PROCEDURES[procedure].run(workload, rig, effort)
        counted = report.figures.get("instructions")
        return report, counted if isinstance(counted, int) else _count(workload, rig)
    except EmulatorMissingError:
        raise
    except EmulationError as error:
        return Report(procedure, workload.board.name, "", (_faulted(workload.board.name, error),)), None


def _count(workload: Workload, rig: Rig) -> int | None:
    with closing(rig.boot_counting()) as board:
        return board.infer(workload.inputs[0].tobytes()).instructions


def _faulted(board: str, error: EmulationError) -> Check:
    return Check(
        name=f"runs-{board}",
        outcome=CheckOutcome.FAILED,
        observed=str(error),
        allowed="boots, and answers every input without a fault",
        detail="find the program counter in the board's ELF, which `edgeloop compile` writes",
    )
