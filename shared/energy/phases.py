"""From a trace to microjoules: phases before, in and after the inference, each with its uncertainty.

Method: trigger pin and pre-inference, inference and post-inference phases of arXiv 2505.15622. The uncertainty is the
standard uncertainty of the GUM (JCGM 100): limits count as rectangular distributions, parts add in quadrature.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from shared.energy import PhaseError, Trace

_RECTANGULAR: Final = 1 / math.sqrt(3)
"""From the limit of a rectangular distribution to its standard deviation."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase's energy.

    Attributes:
        uncertainty_uj: One standard uncertainty.
    """

    seconds: float
    energy_uj: float
    uncertainty_uj: float


@dataclass(frozen=True, slots=True)
class EnergyResult:
    """What one measurement gave. `inference` is per inference; `pre` and `post` are the whole phases.

    Attributes:
        windows: Times that the trigger was high, or pairs of marks. Pauses between them count nowhere.
        net_uj: Energy of one inference above what the board takes while it waits in `pre`; None without that phase.
    """

    instrument: str
    inferences: int
    windows: int
    pre: Phase
    inference: Phase
    post: Phase
    net_uj: float | None
    source: Literal["measured"] = "measured"

    @property
    def energy_uj(self) -> float:
        """Energy of one inference."""
        return self.inference.energy_uj


def measured_energy(trace: Trace, inferences: int) -> EnergyResult:
    """Return the energy of one inference out of `inferences`, spread evenly over the trace's windows.

    Raises:
        PhaseError: no window, one that is cut off, or a number of inferences that its windows cannot share evenly.
    """
    windows = windows_of(trace)
    if inferences < 1 or inferences % len(windows):
        raise PhaseError(
            f"{inferences} inferences in {len(windows)} windows; allowed is a multiple of the windows."
            " Next: tell how many inferences ran while the trigger was high"
        )
    pre = _phase(trace, ((0, windows[0][0]),))
    post = _phase(trace, ((windows[-1][1], len(trace.power_w)),))
    whole = _phase(trace, windows)
    each = Phase(whole.seconds / inferences, whole.energy_uj / inferences, whole.uncertainty_uj / inferences)
    idle_w = pre.energy_uj / pre.seconds if pre.seconds else None
    return EnergyResult(
        instrument=trace.instrument,
        inferences=inferences,
        windows=len(windows),
        pre=pre,
        inference=each,
        post=post,
        net_uj=None if idle_w is None else each.energy_uj - idle_w * each.seconds,
    )


def windows_of(trace: Trace) -> tuple[tuple[int, int], ...]:
    """Return first and past-the-end samples of each inference window, by the trigger pin or else by pairs of marks.

    Raises:
        PhaseError: there is none, or the measurement began or ended inside one.
    """
    windows = _marked(trace) if trace.trigger is None else _triggered(trace.trigger)
    empty = [index for index, (begin, end) in enumerate(windows, 1) if begin >= end]
    if empty:
        raise PhaseError(
            f"window {empty[0]} has no sample at {trace.rate_hz:g} Hz."
            " Next: run more inferences in one window, or raise the sampling rate"
        )
    return windows


def _triggered(trigger: np.ndarray) -> tuple[tuple[int, int], ...]:
    if not trigger.any():
        raise PhaseError(
            "the trigger pin was never high."
            " Next: connect the board's trigger pin to the channel that `trigger=` names, and common ground"
        )
    if trigger[0] or trigger[-1]:
        when = "began" if trigger[0] else "ended"
        raise PhaseError(
            f"the measurement {when} while the trigger pin was high, so that a window is cut off."
            " Next: start before the inference and stop after it; a pin that is always high is not driven"
        )
    edges = np.flatnonzero(np.diff(trigger.astype(np.int8))) + 1
    return tuple((int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True))


def _marked(trace: Trace) -> tuple[tuple[int, int], ...]:
    marks = trace.marks
    if not marks or len(marks) % 2:
        raise PhaseError(
            f"no trigger pin and {len(marks)} marks; allowed is a pair of marks for each window."
            " Next: mark where the inferences begin and where they end, or use a trigger pin"
        )
    return tuple(zip(marks[::2], marks[1::2], strict=True))


def _phase(trace: Trace, windows: tuple[tuple[int, int], ...]) -> Phase:
    samples = sum(end - begin for begin, end in windows)
    joules = float(sum(trace.power_w[begin:end].sum() for begin, end in windows)) / trace.rate_hz
    edge_s = 1 / trace.rate_hz if trace.trigger is not None else trace.mark_error_s
    parts = [joules * trace.accuracy * _RECTANGULAR]
    for begin, end in windows:
        parts += [_step_w(trace, edge) * edge_s * _RECTANGULAR for edge in (begin, end)]
    return Phase(samples / trace.rate_hz, joules * 1e6, math.hypot(*parts) * 1e6)


def _step_w(trace: Trace, edge: int) -> float:
    """Return how much the power differs on both sides of an edge: what a misplaced edge costs, per second."""
    around = trace.power_w[max(edge - 2, 0) : edge + 2]
    return float(around.max() - around.min()) if len(around) else 0.0
