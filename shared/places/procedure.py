"""Runs an order's procedure on a rig of `shared.procedures`, and says what came of it as a place does."""

import json
from collections.abc import Callable

from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.mcuboot_image import ImageFormatError
from shared.emulation.qemu_process import EmulatorMissingError
from shared.lab.verdict import AttemptOutcome
from shared.places.rig import Ended, Order, RigError
from shared.procedures import Effort, ProcedureError, Report, Workload, staging
from shared.procedures import Rig as Booting
from shared.procedures.staging import BoardRun
from shared.procedures.table import PROCEDURES
from shared.procedures.workloads import WorkloadError, read_workload
from shared.releases.gates import explain


def workload_of(order: Order, board: ImageBoard) -> tuple[Workload, Effort]:
    """Return what to ask of the firmware.

    Raises:
        RigError: nobody can read it, it is for another kind of board, or there is no such procedure.
    """
    try:
        workload, effort = read_workload(order.workload)
    except WorkloadError as error:
        raise RigError(AttemptOutcome.LAB, str(error)) from error
    if workload.board.name != board.name:
        raise RigError(AttemptOutcome.LAB, f"the workload is for {workload.board.name}, this board is a {board.name}")
    if order.procedure != staging.NAME and order.procedure not in PROCEDURES:
        known = ", ".join([staging.NAME, *PROCEDURES])
        raise RigError(AttemptOutcome.LAB, f"no procedure is called {order.procedure!r}; there are {known}")
    return workload, effort


def run_procedure(
    name: str, case: tuple[Workload, Effort], rig: Booting, *, amend: Callable[[BoardRun], BoardRun] = lambda run: run
) -> Ended:
    """Run a procedure to its end. Firmware that faults fails; a run of staging is amended before it is judged.

    Raises:
        RigError: the lab lacks something for it.
    """
    workload, effort = case
    try:
        if name == staging.NAME:
            run = amend(staging.observe(workload, rig))
            said = run.fault or f"{run.inputs} inputs answered, {run.mismatches} of them not as the reference"
            return Ended(staging.sound(run, workload), said, staging.write_run(run))
        report = PROCEDURES[name].run(workload, rig, effort)
    except (EmulatorMissingError, ProcedureError) as error:
        raise RigError(AttemptOutcome.LAB, str(error)) from error
    except (EmulationError, ImageFormatError) as error:
        return Ended(passed=False, said=str(error), report=b"")
    return Ended(report.passed, "" if report.passed else explain(report.checks), write_report(report))


def write_report(report: Report) -> bytes:
    """Return the JSON of a report."""
    return json.dumps(
        {
            "procedure": report.procedure,
            "board": report.board,
            "emulator": report.emulator,
            "passed": report.passed,
            "checks": [check.model_dump(mode="json") for check in report.checks],
            "figures": dict(report.figures),
        }
    ).encode()
