"""Checks of a release's datasets: each a small function in a table, and the verdict they add up to.

The structure comes first: content is only judged in arrays of the declared shape, with finite values and known labels.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from services.data_validator.hashing import duplicate_rows, shared_runs, window_hashes
from shared.events import Check, CheckOutcome
from shared.releases.datasets import Dataset
from shared.releases.gates import outcome, passes
from shared.releases.manifest import Manifest

CLIPPED_SHARE: Final = 0.05
"""A sensor in its range touches its two extremes in a few samples in a million; one that saturates stays there."""
STUCK_SHARE: Final = 0.05
OVERLAP_SHARE: Final = 0.01
IMBALANCE: Final = 50.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is judged: the declaration, and the datasets it speaks of."""

    manifest: Manifest
    train: Dataset
    test: Dataset
    production: Mapping[str, Dataset] = field(default_factory=dict)
    """What retraining took from the field: it may be in train and test alike, by group."""
    more: Mapping[str, Dataset] = field(default_factory=dict)
    """The manifest's other datasets, by path."""

    def parts(self) -> dict[str, Dataset]:
        """Return every dataset under the name that checks use."""
        return {"train": self.train, "test": self.test, **self.production, **self.more}

    def trained_on(self) -> dict[str, Dataset]:
        """Return what the train step sees, where nothing of test may be."""
        return {"train": self.train, **self.more}


CheckFunction: TypeAlias = Callable[[Evidence], Check]


def judge(evidence: Evidence) -> tuple[Check, ...]:
    """Return the answers to all questions that can be asked; content checks need a sound structure."""
    structure = tuple(check(evidence) for check in STRUCTURE)
    if not passes(structure):
        return structure
    return structure + tuple(check(evidence) for check in CONTENT)


def window_shape(evidence: Evidence) -> Check:
    """Every row has the shape that the manifest declares."""
    wanted = evidence.manifest.input.shape
    found = {name: part.x.shape[1:] for name, part in evidence.parts().items()}
    wrong = [name for name, shape in found.items() if shape != wanted]
    return Check(
        name="window-shape",
        outcome=outcome(not wrong),
        observed=", ".join(f"{name} {_shape(shape)}" for name, shape in found.items()),
        allowed=f"{_shape(wanted)} (input.shape)",
        detail=f"{', '.join(wrong)}: reshape in the prepare step, or correct input.shape in edgeloop.yaml"
        if wrong
        else "",
    )


def finite_values(evidence: Evidence) -> Check:
    """No NaN, no infinity."""
    bad = {name: ~np.isfinite(part.x).all(axis=tuple(range(1, part.x.ndim))) for name, part in evidence.parts().items()}
    rows = sum(int(mask.sum()) for mask in bad.values())
    places = [f"{name} row {int(np.argmax(mask))}" for name, mask in bad.items() if mask.any()]
    return Check(
        name="finite-values",
        outcome=outcome(not places),
        observed=f"{rows} rows hold NaN or infinity",
        allowed="0",
        detail=f"first in {', '.join(places)}: drop or repair these windows in the prepare step" if places else "",
    )


def known_labels(evidence: Evidence) -> Check:
    """Every class index is one of the manifest's labels."""
    classes = len(evidence.manifest.labels)
    wrong = {
        name: sorted({int(label) for label in part.y if not 0 <= label < classes})
        for name, part in evidence.parts().items()
    }
    places = [f"{name}: {labels[:5]}" for name, labels in wrong.items() if labels]
    return Check(
        name="known-labels",
        outcome=outcome(not places),
        observed="; ".join(places) or f"class indices within 0 to {classes - 1}",
        allowed=f"0 to {classes - 1} ({classes} labels)",
        detail="correct y in the prepare step, or add the missing names to labels in edgeloop.yaml" if places else "",
    )


def value_range(evidence: Evidence) -> Check:
    """Values are within what a healthy sensor gives."""
    limits = evidence.manifest.input
    extremes = {
        name: (float(part.x.min()), float(part.x.max())) for name, part in evidence.parts().items() if part.x.size
    }
    wrong = [name for name, (low, high) in extremes.items() if low < limits.minimum or high > limits.maximum]
    return Check(
        name="value-range",
        outcome=outcome(not wrong),
        observed=", ".join(f"{name} {low:.6g} to {high:.6g}" for name, (low, high) in extremes.items()),
        allowed=f"{limits.minimum:g} to {limits.maximum:g} (input.minimum, input.maximum)",
        detail=f"{', '.join(wrong)}: look for a wrong unit or a faulty sensor; if the values are right, widen the range"
        if wrong
        else "",
    )


def enough_rows(evidence: Evidence) -> Check:
    """Too few rows judge nothing."""
    minimum = evidence.manifest.gates.minimum_rows
    counts = {"train": len(evidence.train), "test": len(evidence.test)}
    enough = all(count >= minimum for count in counts.values())
    return Check(
        name="enough-rows",
        outcome=CheckOutcome.PASSED if enough else CheckOutcome.INSUFFICIENT_EVIDENCE,
        observed=", ".join(f"{name} {count} rows" for name, count in counts.items()),
        allowed=f"at least {minimum} rows each (gates.minimum_rows)",
        detail="" if enough else "insufficient evidence does not pass a gate: add recordings",
    )


def classes_in_train(evidence: Evidence) -> Check:
    """A class without training rows cannot be learnt."""
    return _every_class(evidence, "train", evidence.train, CheckOutcome.FAILED, "the model cannot learn it")


def classes_in_test(evidence: Evidence) -> Check:
    """A class without test rows cannot be judged."""
    consequence = "insufficient evidence does not pass a gate"
    return _every_class(evidence, "test", evidence.test, CheckOutcome.INSUFFICIENT_EVIDENCE, consequence)


def class_balance(evidence: Evidence) -> Check:
    """The commonest class of the training set does not drown the rarest."""
    counts = _class_counts(evidence.manifest, evidence.train)
    present = [count for count in counts.values() if count]
    ratio = max(present) / min(present) if present else 1.0
    balanced = ratio <= IMBALANCE
    return Check(
        name="class-balance",
        outcome=outcome(balanced),
        observed=f"1:{ratio:.3g} ({', '.join(f'{label} {count}' for label, count in counts.items())})",
        allowed=f"at most 1:{IMBALANCE:g} between the rarest and the commonest class of train",
        detail="" if balanced else "record more of the rare class, or leave rows of the common one out",
    )


def group_leakage(evidence: Evidence) -> Check:
    """No person or device is in both train and test: a random split flatters by ten to twenty points."""
    test = _groups(evidence.test)
    counts = {name: len(_groups(part)) for name, part in evidence.trained_on().items()}
    both = {name: sorted(_groups(part) & test) for name, part in evidence.trained_on().items()}
    places = [f"group {', '.join(groups[:10])} of {name}" for name, groups in both.items() if groups]
    return Check(
        name="group-leakage",
        outcome=outcome(not places),
        observed=f"{len(both['train'])} groups in both of {counts['train']} in train and {len(test)} in test"
        + "".join(f", {len(both[name])} of {counts[name]} in {name}" for name in evidence.more),
        allowed="0",
        detail=f"{'; '.join(places)}: split by person or device, never by row" if places else "",
    )


def duplicate_leakage(evidence: Evidence) -> Check:
    """No test window is also a training window."""
    test = window_hashes(evidence.test.x)
    both = {name: np.isin(test, window_hashes(part.x)) for name, part in evidence.trained_on().items()}
    places = _first_test_rows(both)
    return Check(
        name="duplicate-leakage",
        outcome=outcome(not places),
        observed=f"{_counted(both, 'are in')}, value for value",
        allowed="0",
        detail=f"{places}: remove them from one side" if places else "",
    )


def overlap_leakage(evidence: Evidence) -> Check:
    """No test window overlaps a training window in time: windows are cut after the split, not before."""
    overlapping = {name: shared_runs(part.x, evidence.test.x) for name, part in evidence.trained_on().items()}
    leaking = {name: rows for name, rows in overlapping.items() if len(rows) and rows.mean() > OVERLAP_SHARE}
    return Check(
        name="overlap-leakage",
        outcome=outcome(not leaking),
        observed=_counted(overlapping, "share consecutive samples with"),
        allowed=f"at most {OVERLAP_SHARE:.0%}",
        detail=f"{_first_test_rows(leaking)}: split the recordings first and cut windows after" if leaking else "",
    )


def conflicting_labels(evidence: Evidence) -> Check:
    """Equal windows have equal labels."""
    judged = {"train": evidence.train, "test": evidence.test, **evidence.more}
    conflicts = {name: duplicate_rows(part.x, part.y) for name, part in judged.items()}
    places = [f"{name} rows {rows[:5].tolist()}" for name, rows in conflicts.items() if len(rows)]
    return Check(
        name="conflicting-labels",
        outcome=outcome(not places),
        observed=f"{sum(map(len, conflicts.values()))} rows equal another row of another class",
        allowed="0",
        detail=f"{', '.join(places)}: decide on one label" if places else "",
    )


def stuck_channels(evidence: Evidence) -> Check:
    """No channel stands still through whole windows."""
    shares = {name: _stuck_shares(part.x) for name, part in evidence.parts().items()}
    return _channel_check(evidence.manifest, "stuck-channels", shares, "windows without any change", STUCK_SHARE)


def clipped_channels(evidence: Evidence) -> Check:
    """No channel stays at its own smallest or largest value."""
    shares = {name: _clipped_shares(part.x) for name, part in evidence.parts().items()}
    return _channel_check(evidence.manifest, "clipped-channels", shares, "samples at an extreme", CLIPPED_SHARE)


STRUCTURE: Final[tuple[CheckFunction, ...]] = (window_shape, finite_values, known_labels)
CONTENT: Final[tuple[CheckFunction, ...]] = (
    enough_rows,
    value_range,
    classes_in_train,
    classes_in_test,
    class_balance,
    group_leakage,
    duplicate_leakage,
    overlap_leakage,
    conflicting_labels,
    stuck_channels,
    clipped_channels,
)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _groups(part: Dataset) -> set[str]:
    return set(map(str, part.group.tolist()))


def _counted(found: Mapping[str, npt.NDArray[np.bool_]], how: str) -> str:
    """Say how many test windows were found in each dataset, from one mask of test rows for each."""
    counts = [f"{int(rows.sum())} of {len(rows)} test windows {how} {name}" for name, rows in found.items()]
    return ", ".join(counts)


def _first_test_rows(found: Mapping[str, npt.NDArray[np.bool_]]) -> str:
    """Say which test rows were found in which dataset; nothing when none were."""
    places = [
        f"first test rows {np.flatnonzero(rows)[:5].tolist()} in {name}" for name, rows in found.items() if rows.any()
    ]
    return "; ".join(places)


def _class_counts(manifest: Manifest, part: Dataset) -> dict[str, int]:
    counts = Counter(part.y.tolist())
    return {label: counts[index] for index, label in enumerate(manifest.labels)}


def _every_class(evidence: Evidence, name: str, part: Dataset, otherwise: CheckOutcome, consequence: str) -> Check:
    counts = _class_counts(evidence.manifest, part)
    missing = [label for label, count in counts.items() if not count]
    return Check(
        name=f"classes-in-{name}",
        outcome=otherwise if missing else CheckOutcome.PASSED,
        observed=", ".join(f"{label} {count}" for label, count in counts.items()),
        allowed="at least 1 row of every label",
        detail=f"no row of {', '.join(missing)}: {consequence}; record it, or take the label out" if missing else "",
    )


def _is_series(x: npt.NDArray[np.float32]) -> bool:
    """Whether rows are (time, channels): pictures and feature vectors may well stand still."""
    return x.ndim == 3 and x.shape[1] > 1 and len(x) > 0


def _stuck_shares(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    if not _is_series(x):
        return np.zeros(x.shape[-1])
    shares: npt.NDArray[np.float64] = (x.min(axis=1) == x.max(axis=1)).mean(axis=0)
    return shares


def _clipped_shares(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    if not _is_series(x):
        return np.zeros(x.shape[-1])
    moves = x.max(axis=(0, 1)) > x.min(axis=(0, 1))  # a channel that never moves is stuck, not clipped
    low = (x == x.min(axis=(0, 1))).mean(axis=(0, 1))
    high = (x == x.max(axis=(0, 1))).mean(axis=(0, 1))
    shares: npt.NDArray[np.float64] = np.where(moves, np.maximum(low, high), 0.0)
    return shares


def _channel_check(
    manifest: Manifest, name: str, shares: dict[str, npt.NDArray[np.float64]], what: str, allowed: float
) -> Check:
    worst_part = max(shares, key=lambda part: float(shares[part].max()))
    worst = int(shares[worst_part].argmax())
    channels = manifest.input.channels
    channel = channels[worst] if worst < len(channels) else f"channel {worst}"
    bad = [part for part, values in shares.items() if (values > allowed).any()]
    return Check(
        name=name,
        outcome=outcome(not bad),
        observed=f"{float(shares[worst_part][worst]):.2%} {what} in {channel} of {worst_part}",
        allowed=f"at most {allowed:.0%} of any channel",
        detail=f"{', '.join(bad)}: leave these recordings out, or repair the sensor" if bad else "",
    )
