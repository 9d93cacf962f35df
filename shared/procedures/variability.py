"""Sensor variability: the accuracy on the board of windows that a slightly other sensor would have given.

Every level of every perturbation runs on the board: what is swept is the signal, what answers is the firmware.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.emulation import EmulatedBoard
from shared.events import Check
from shared.procedures import Effort, Json, ProcedureError, Report, Rig, SensorWindows, Workload, parity
from shared.procedures.acceptance import Score, score_of
from shared.procedures.perturbations import PERTURBATIONS, Span, perturbed
from shared.releases.gates import outcome, wilson_interval
from shared.releases.histograms import quantise
from shared.releases.release import Quantisation

TOLERATED_LOSS = 0.05
"""Of accuracy. What a sensor may do within it is the tolerated span of a perturbation."""


@dataclass(frozen=True, slots=True)
class Point:
    """One level of one perturbation of one sensor."""

    sensor: str
    perturbation: str
    level: float
    score: Score


def run(workload: Workload, rig: Rig, effort: Effort) -> Report:
    """Sweep the grid on one board."""
    windows = effort.windows
    if windows is None or workload.labels is None:
        raise ProcedureError("sensor variability needs windows before quantisation and the class of each: give labels")
    with closing(rig.boot()) as board:
        points = tuple(sweep(board, windows, workload.labels, seed=effort.seed))
        emulator = board.emulator
    clean = next(point.score for point in points if point.level == PERTURBATIONS[point.perturbation].neutral)
    return Report(
        "variability",
        workload.board.name,
        emulator,
        (judge(workload.board.name, clean, workload.accuracy),),
        {
            "accuracy": round(clean.accuracy, 6),
            "inputs": clean.rows,
            "seed": effort.seed,
            "tolerated": [
                {"sensor": sensor, "perturbation": name, "from": low, "to": high}
                for (sensor, name), (low, high) in tolerated(points, clean).items()
            ],
            "points": [_row(point) for point in points],
        },
    )


def sweep(board: EmulatedBoard, windows: SensorWindows, labels: npt.NDArray[np.int64], *, seed: int) -> Iterator[Point]:
    """Run the whole grid. Undisturbed windows are run once, and stand in every curve.

    Raises:
        EmulationError: the board faulted or hung.
    """
    span = span_of(windows.quantisation)

    def measured(x: npt.NDArray[np.float32]) -> Score:
        rows = quantise(x, windows.quantisation)
        return score_of(parity.answers(board, rows.reshape(len(rows), -1)), labels)

    clean = measured(windows.x)
    for sensor, channels in windows.sensors.items():
        for name, perturbation in PERTURBATIONS.items():
            for level in perturbation.levels:
                neutral = level == perturbation.neutral
                score = (
                    clean
                    if neutral
                    else measured(perturbed(windows.x, name, level, channels=channels, span=span, seed=seed))
                )
                yield Point(sensor, name, level, score)


def span_of(quantisation: Quantisation) -> Span:
    """Return the smallest and the largest value that an int8 input holds."""
    low, high = ((limit - quantisation.zero_point) * quantisation.scale for limit in (-128, 127))
    return low, high


def tolerated(points: tuple[Point, ...], clean: Score) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the span of levels around the neutral one whose accuracy stays within `TOLERATED_LOSS`, per curve."""
    spans = {}
    for key in dict.fromkeys((point.sensor, point.perturbation) for point in points):
        curve = [(point.level, point.score) for point in points if (point.sensor, point.perturbation) == key]
        neutral = PERTURBATIONS[key[1]].neutral
        good = {level: score.accuracy >= clean.accuracy - TOLERATED_LOSS for level, score in curve}
        below = [level for level in good if level <= neutral]
        above = [level for level in good if level >= neutral]
        spans[key] = (_farthest(below[::-1], good), _farthest(above, good))
    return spans


def judge(board: str, clean: Score, wanted: float | None) -> Check:
    """Ask that there is an accuracy to lose: curves of a model that knows nothing are flat."""
    wanted = 0.0 if wanted is None else wanted
    low, _ = wilson_interval(clean.correct, clean.rows)
    return Check(
        name=f"undisturbed-accuracy-{board}",
        outcome=outcome(clean.accuracy > 0 and clean.accuracy >= wanted, rows=clean.rows),
        observed=str(clean),
        allowed=f"more than 0, and at least {wanted:g}",
        detail="" if low > wanted else "few inputs: the interval reaches below what is asked; give more",
    )


def _farthest(levels: list[float], good: dict[float, bool]) -> float:
    """Return the last level before the first that is not tolerated; the neutral level comes first and is."""
    reached = levels[0]
    for level in levels:
        if not good[level]:
            break
        reached = level
    return reached


def _row(point: Point) -> dict[str, Json]:
    low, high = wilson_interval(point.score.correct, point.score.rows)
    return {
        "sensor": point.sensor,
        "perturbation": point.perturbation,
        "level": point.level,
        "accuracy": round(point.score.accuracy, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "correct": point.score.correct,
        "inputs": point.score.rows,
    }
