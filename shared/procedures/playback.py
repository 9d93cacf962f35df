"""Sensor playback: a recorded trace enters through the second UART, and the firmware cuts its windows out of it."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.emulation.dut import Dut
from shared.emulation.frames import frames
from shared.events import Check, CheckOutcome
from shared.procedures import Effort, Json, ProcedureError, Report, Rig, Workload, acceptance, parity
from shared.releases.gates import outcome, wilson_interval


@dataclass(frozen=True, slots=True)
class PlaybackRun:
    """What became of a trace: the output of each window, and how its frames arrived."""

    outputs: list[bytes]
    whole: int
    lost: int
    damaged: int


def run(workload: Workload, rig: Rig, effort: Effort) -> Report:
    """Play the rows as one trace. Rows that overlap by all but `hop_bytes` are windows of it."""
    board_name = workload.board.name
    with closing(rig.boot()) as board:
        if not board.reads_traces():
            raise ProcedureError("the firmware has no reader for traces: compile it with EL_PLAYBACK")
        hop = effort.hop_bytes or board.info.input_bytes
        found = play(board, b"".join(frames(trace_of(workload.inputs, hop))), hop)
        emulator = board.emulator
    checks = judge(board_name, found, workload.expected)
    figures: dict[str, Json] = {
        "windows": len(found.outputs),
        "frames": found.whole,
        "lost": found.lost,
        "damaged": found.damaged,
    }
    if workload.labels is not None and len(found.outputs) == len(workload.labels):
        score = acceptance.score_of(found.outputs, workload.labels)
        low, high = wilson_interval(score.correct, score.rows)
        figures |= {"accuracy": round(score.accuracy, 6), "accuracy_interval": [round(low, 6), round(high, 6)]}
    return Report("playback", board_name, emulator, checks, figures)


def windows_of(trace: npt.NDArray[np.int8], size: int, hop: int) -> npt.NDArray[np.int8]:
    """Return the windows of a trace that moves on by `hop` bytes, shape (windows, size)."""
    if not 1 <= hop <= size:
        raise ProcedureError(f"a window of {size} bytes moves on by 1 to {size} bytes, not by {hop}")
    if len(trace) < size:
        raise ProcedureError(f"the trace has {len(trace)} bytes; one window has {size}")
    view = np.lib.stride_tricks.sliding_window_view(trace, size)
    return np.ascontiguousarray(view[::hop])


def trace_of(windows: npt.NDArray[np.int8], hop: int) -> bytes:
    """Return the trace that `windows_of` cut these windows out of."""
    first: bytes = windows[0].tobytes()
    rest: bytes = windows[1:, -hop:].tobytes()
    return first + rest


def play(board: Dut, stream: bytes, hop: int) -> PlaybackRun:
    """Feed frames to a booted board, and have it answer every window of them.

    Raises:
        EmulationError: the board faulted, or the stream broke off.
    """
    board.control.feed(stream)
    outputs = []
    step = board.info.input_bytes
    while (sensed := board.sense(step)).inference is not None:
        outputs.append(sensed.inference.output)
        step = hop
    return PlaybackRun(outputs, sensed.whole, sensed.lost, sensed.damaged)


def judge(board: str, run: PlaybackRun, expected: npt.NDArray[np.int8]) -> tuple[Check, ...]:
    """Ask for every frame, and for the reference's bits in every window. What a line lost is no fault of the model."""
    arrived = run.lost == 0
    frames_check = Check(
        name=f"frames-{board}",
        outcome=outcome(arrived),
        observed=f"{run.whole} whole, {run.lost} lost, {run.damaged} of them damaged",
        allowed="none lost",
        detail="" if arrived else "the line loses bytes: it says nothing about the model; play the trace again",
    )
    if not arrived:
        windows = Check(
            name=f"windows-{board}",
            outcome=CheckOutcome.INSUFFICIENT_EVIDENCE,
            observed=f"{len(run.outputs)} windows of a trace with gaps",
            allowed="the reference's output for every window",
        )
        return frames_check, windows
    if len(run.outputs) != len(expected):
        windows = Check(
            name=f"windows-{board}",
            outcome=CheckOutcome.FAILED,
            observed=f"{len(run.outputs)} windows",
            allowed=f"{len(expected)}",
            detail="the firmware cuts other windows out of the trace",
        )
        return frames_check, windows
    compared = parity.compare(run.outputs, expected)
    windows = Check(
        name=f"windows-{board}",
        outcome=outcome(compared.mismatches == 0, rows=compared.inputs),
        observed=f"{compared.mismatches} of {compared.inputs} windows differ from the reference",
        allowed="0, bit by bit",
        detail=f"window {compared.first.row}: {compared.first.found} instead of {compared.first.expected}"
        if compared.first
        else "",
    )
    return frames_check, windows
