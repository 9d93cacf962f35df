"""Endurance: inference after inference, with resets and power cuts now and then. Nothing may change."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from shared.emulation import EmulationError
from shared.emulation.dut import Dut
from shared.events import Check
from shared.procedures import Effort, ProcedureError, Report, Rig, Workload
from shared.releases.gates import outcome


@dataclass(frozen=True, slots=True)
class Boot:
    """The stack's high-water mark after the first inference since a boot, and after the last before the next one."""

    first_stack_bytes: int
    last_stack_bytes: int


@dataclass(slots=True)
class EnduranceRun:
    """What happened. `fault` says why it ended early."""

    inferences: int = 0
    wrong: int = 0
    first_wrong: str = ""
    boots: list[Boot] = field(default_factory=list)
    fault: str = ""


def run(workload: Workload, rig: Rig, effort: Effort) -> Report:
    """Run until enough inferences were made, or the time is over."""
    if effort.inferences < 1 or effort.reset_every < 1:
        raise ProcedureError(
            f"{effort.inferences} inferences with a reset after every {effort.reset_every}: both must be at least 1"
        )
    with closing(rig.boot()) as board:
        found = observe(board, workload, effort)
        emulator = board.emulator
    return Report(
        "endurance",
        workload.board.name,
        emulator,
        judge(workload.board.name, found),
        {
            "inferences": found.inferences,
            "wrong": found.wrong,
            "boots": len(found.boots),
            "stack_bytes": max((boot.last_stack_bytes for boot in found.boots), default=0),
        },
    )


def observe(
    board: Dut, workload: Workload, effort: Effort, *, clock: Callable[[], float] = time.monotonic
) -> EnduranceRun:
    """Have a board answer the rows over and over; boot it again after every `reset_every` inferences."""
    found = EnduranceRun()
    deadline = None if effort.seconds is None else clock() + effort.seconds
    try:
        while found.inferences < effort.inferences and (deadline is None or clock() < deadline):
            if found.inferences:
                _boot_again(board, power_cut=len(found.boots) % 2 == 0)
            _one_boot(board, workload, found, min(effort.reset_every, effort.inferences - found.inferences))
    except EmulationError as error:
        found.fault = f"inference {found.inferences}: {error}"
    return found


def judge(board: str, run: EnduranceRun) -> tuple[Check, ...]:
    """Ask for the same bits and the same stack from the first inference to the last."""
    ran = Check(
        name=f"endures-{board}",
        outcome=outcome(not run.fault, rows=run.inferences if not run.fault else None),
        observed=run.fault or f"{run.inferences} inferences, {len(run.boots)} boots",
        allowed="every inference answered, every boot comes up",
        detail="find the program counter in the ELF" if "pc" in run.fault else "",
    )
    bits = Check(
        name=f"endurance-bits-{board}",
        outcome=outcome(run.wrong == 0, rows=run.inferences),
        observed=f"{run.wrong} of {run.inferences} outputs are not the reference's",
        allowed="0, bit by bit",
        detail=run.first_wrong,
    )
    marks = sorted({mark for boot in run.boots for mark in (boot.first_stack_bytes, boot.last_stack_bytes)})
    drift = Check(
        name=f"endurance-stack-{board}",
        outcome=outcome(len(marks) == 1, rows=len(run.boots)),
        observed=f"high-water marks of {', '.join(map(str, marks)) or 'no boot'} bytes",
        allowed="one and the same after the first inference and after the last, in every boot",
        detail=""
        if len(marks) <= 1
        else "the stack grows with use: look for recursion, or for a frame that is not left",
    )
    return ran, bits, drift


def _one_boot(board: Dut, workload: Workload, found: EnduranceRun, inferences: int) -> None:
    first = 0
    for count in range(inferences):
        row = found.inferences % len(workload.inputs)
        output, right = board.infer(workload.inputs[row].tobytes()).output, workload.expected[row].tobytes()
        if output != right:
            found.wrong += 1
            found.first_wrong = found.first_wrong or (
                f"inference {found.inferences}, row {row}: {output.hex()} instead of {right.hex()}"
            )
        found.inferences += 1
        if count == 0:
            first = board.stack_bytes()
    found.boots.append(Boot(first, board.stack_bytes()))


def _boot_again(board: Dut, *, power_cut: bool) -> None:
    if power_cut:
        board.control.power_cut()
        board.control.power_on()
    else:
        board.control.reset()
