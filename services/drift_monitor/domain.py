"""Drift decisions: pure functions of counts.

The statistic is the population stability index of one input channel, the worst one counts:
``sum((p - q) * ln(p / q))`` over the 32 bins, p being the shares seen by boards and q those of training, in nats
(Siddiqi, Credit Risk Scorecards, 2006). It is Jeffreys' symmetric divergence. Every bin is smoothed as
``(count + 1/2) / (total + bins / 2)``, the Krichevsky-Trofimov estimate, so that a bin that one side never saw is
finite evidence, the more the larger the samples.

Windows do not overlap, and an alarm takes two in a row: a burst that fits into one is a warning.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.events import Blob, Digest
from shared.releases.release import HISTOGRAM_BINS

Counts: TypeAlias = npt.NDArray[np.int64]

_SMOOTHING: Final = 0.5
CALM_SHARE: Final = 0.8
"""Below this share of the threshold a window is calm; between the two it warns, so that nothing flickers."""
CONSECUTIVE: Final = 2
"""Windows in a row that begin a drift, or end it."""
RING_WINDOWS: Final = 4
"""While too few devices report, so many times the minimum of inferences is kept; the oldest give way."""
REMEMBERED_REPORTS: Final = 64
"""Of each device: repeats of these are recognised."""


def psi(observed: Counts, reference: Counts) -> npt.NDArray[np.float64]:
    """Return the population stability index of each row of `observed` against `reference`, shape (..., bins)."""
    p, q = _shares(observed), _shares(reference)
    index: npt.NDArray[np.float64] = ((p - q) * (np.log(p) - np.log(q))).sum(axis=-1)
    return index


def _shares(counts: Counts) -> npt.NDArray[np.float64]:
    smoothed = counts.astype(np.float64) + _SMOOTHING
    shares: npt.NDArray[np.float64] = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return shares


@dataclass(frozen=True, slots=True)
class Report:
    """What one device saw since its last report.

    Attributes:
        inputs: Shape (channels, 32).
        classes: Predictions per class.
    """

    device: str
    inferences: int
    inputs: Counts
    classes: Counts


@dataclass(frozen=True, slots=True)
class Policy:
    """When a release's inputs count as drifted: the manifest's `drift` section."""

    psi_threshold: float
    minimum_windows: int
    minimum_devices: int
    minimum_production_rows: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a release says of itself that drift is judged by."""

    policy: Policy
    inputs: Counts
    classes: Counts
    production: tuple[Blob, ...]
    """Production data that it was trained on already."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a window of inferences shows."""

    statistic: float
    channel: int
    """The input channel that moved most."""
    class_statistic: float
    """The same index over predicted classes: reported, not judged."""
    windows: int
    devices: int


def inferences_of(reports: Iterable[Report]) -> int:
    """Return how many inferences are behind `reports`."""
    return sum(report.inferences for report in reports)


def trim(reports: Sequence[Report], policy: Policy) -> Sequence[Report]:
    """Return the newest reports, as few as hold the ring's inferences."""
    room = RING_WINDOWS * policy.minimum_windows
    surplus, first = inferences_of(reports) - room, 0
    while first < len(reports) - 1 and surplus >= reports[first].inferences:
        surplus -= reports[first].inferences
        first += 1
    return reports[first:]


def evaluate(reports: Sequence[Report], baseline: Baseline) -> Verdict | None:
    """Compare a window with the baseline; None: insufficient evidence."""
    inferences, devices = inferences_of(reports), len({report.device for report in reports})
    policy = baseline.policy
    if inferences < policy.minimum_windows or devices < policy.minimum_devices or not baseline.inputs.any():
        return None
    inputs = np.sum([report.inputs for report in reports], axis=0)
    classes = np.sum([report.classes for report in reports], axis=0)
    by_channel = psi(inputs, baseline.inputs)
    channel = int(by_channel.argmax())
    return Verdict(
        statistic=float(by_channel[channel]),
        channel=channel,
        class_statistic=float(psi(classes, baseline.classes)),
        windows=inferences,
        devices=devices,
    )


class Zone(StrEnum):
    """Where a release's inputs are."""

    STABLE = "stable"
    WARNING = "warning"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Tracker:
    """One release's history of verdicts, as far as it matters."""

    zone: Zone = Zone.STABLE
    streak: int = 0
    """Windows in a row that speak for a change of zone."""
    episode: int = 0
    """Drifts so far; the newest has this number."""


def judge(tracker: Tracker, statistic: float, threshold: float) -> tuple[Tracker, bool]:
    """Return the next state, and whether a drift has begun: said once per drift."""
    if tracker.zone is Zone.DRIFT:
        streak = tracker.streak + 1 if statistic < CALM_SHARE * threshold else 0
        zone = Zone.STABLE if streak == CONSECUTIVE else Zone.DRIFT
        return replace(tracker, zone=zone, streak=streak % CONSECUTIVE), False
    if statistic >= threshold:
        if tracker.streak + 1 == CONSECUTIVE:
            return Tracker(Zone.DRIFT, 0, tracker.episode + 1), True
        return replace(tracker, zone=Zone.WARNING, streak=tracker.streak + 1), False
    zone = Zone.WARNING if statistic >= CALM_SHARE * threshold else Zone.STABLE
    return replace(tracker, zone=zone, streak=0), False


@dataclass(frozen=True, slots=True)
class Production:
    """Labelled rows from the field."""

    blob: Blob
    rows: int


def production_for_retraining(
    baseline: Baseline, added: Sequence[Production], requested: frozenset[Digest]
) -> tuple[Blob, ...]:
    """Return the data that a retraining should have; empty: wait for more.

    A retraining needs `minimum_production_rows` rows that neither the release was trained on nor an earlier request
    named. It then gets all there is: what the release has learnt already must not be forgotten.
    """
    used = {blob.digest for blob in baseline.production}
    new_rows = sum(data.rows for data in added if data.blob.digest not in used | requested)
    if new_rows < baseline.policy.minimum_production_rows:
        return ()
    return (*baseline.production, *(data.blob for data in added if data.blob.digest not in used))


@dataclass(frozen=True, slots=True)
class Memory:
    """Which reports of a device were taken: sequence and fingerprint, newest last."""

    taken: tuple[tuple[int, int], ...] = ()


def remember(memory: Memory, sequence: int, fingerprint: int) -> tuple[Memory, int] | None:
    """Take a report; return the new memory and how many were missed before it, or None for a repeat.

    A device that began again at 1 sends other content under an old sequence: that is no repeat.
    """
    if (sequence, fingerprint) in memory.taken:
        return None
    last = max((taken for taken, _ in memory.taken), default=None)
    missed = 0 if last is None else max(0, sequence - last - 1)
    return Memory((*memory.taken, (sequence, fingerprint))[-REMEMBERED_REPORTS:]), missed


def shape_problem(report: Report, baseline: Baseline) -> str:
    """Return why a report cannot be compared with the baseline; empty when it can."""
    if report.inputs.shape != baseline.inputs.shape:
        return f"{report.device}: histograms of shape {report.inputs.shape}, the release has {baseline.inputs.shape}"
    if report.classes.shape != baseline.classes.shape:
        return f"{report.device}: {report.classes.size} classes, the release has {baseline.classes.size}"
    return ""


def counts_of(rows: Sequence[Sequence[int]]) -> Counts:
    """Return histograms as an array of shape (channels, 32); ragged or foreign ones become shape (0, 32)."""
    if not rows or any(len(row) != HISTOGRAM_BINS for row in rows):
        return np.zeros((0, HISTOGRAM_BINS), np.int64)
    return np.array(rows, np.int64)
