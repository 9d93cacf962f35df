"""The rows that calibrate quantisation, and what is worth knowing of them: pure, and the same every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

REPRESENTATIVE_ROWS: Final = 500
_OUTLIER: Final = 8.0
"""A largest value this many times the 99.9th percentile leaves the others 4 of the 8 bits, or less."""
_UNEVEN: Final = 64.0
"""The input has one scale: a channel with a 64th of the largest one's range has 2 bits left."""


class RowsError(ValueError):
    """The rows cannot calibrate anything."""


@dataclass(frozen=True, slots=True)
class Representative:
    """Rows that stand for all: shape (rows, *window), float32; notes are for the model's author."""

    x: npt.NDArray[np.float32]
    notes: tuple[str, ...]


def representative(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], name: str) -> Representative:
    """Return up to 500 rows: of every class the same number, as far as it goes, spread over all that it has.

    Raises:
        RowsError: a row holds NaN or infinity.
    """
    broken = np.flatnonzero(~np.isfinite(x).all(axis=tuple(range(1, x.ndim))))
    if len(broken):
        raise RowsError(
            f"{name}: {len(broken)} rows hold NaN or infinity, the first are {broken[:5].tolist()}; int8 has neither. "
            "Next: drop or repair these windows"
        )
    return Representative(x[stratified(y, REPRESENTATIVE_ROWS)], tuple(_notes(x, name)))


def stratified(y: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.int64]:
    """Return the indices of at most `rows` rows, in order; classes with few rows give what they have."""
    members = [np.flatnonzero(y == label) for label in np.unique(y)]
    quota = _quotas([len(member) for member in members], rows)
    spread = [
        member[np.linspace(0, len(member) - 1, count).astype(np.int64)]
        for member, count in zip(members, quota, strict=True)
    ]
    return np.sort(np.concatenate(spread))


def _quotas(sizes: Sequence[int], rows: int) -> list[int]:
    """Share `rows` evenly; what a small class leaves goes to the larger ones."""
    quotas = [0] * len(sizes)
    left = min(rows, sum(sizes))
    for done, index in enumerate(sorted(range(len(sizes)), key=lambda index: (sizes[index], index))):
        quotas[index] = min(sizes[index], left // (len(sizes) - done))
        left -= quotas[index]
    return quotas


def _notes(x: npt.NDArray[np.float32], name: str) -> list[str]:
    axes = tuple(range(x.ndim - 1))
    low, high = x.min(axis=axes), x.max(axis=axes)
    notes = [
        f"{name}: channel {channel} is {low[channel]:g} in every row: it tells the model nothing; is it a dead sensor?"
        for channel in np.flatnonzero(low == high)
    ]
    largest = np.maximum(np.abs(low), np.abs(high))
    notes += [
        f"{name}: channel {channel} reaches {largest[channel]:g}, another {largest.max():g}; the input has one int8 "
        "scale for all, so the small one is rounded away: standardise channels in the preprocessing"
        for channel in np.flatnonzero((low != high) & (largest * _UNEVEN < largest.max(initial=0)))
    ]
    magnitude = np.abs(x)
    usual, maximum = float(np.quantile(magnitude, 0.999)), float(magnitude.max(initial=0))
    if usual * _OUTLIER < maximum:
        notes.append(
            f"{name}: the largest value is {maximum:g}, 99.9 % are below {usual:g}; a few outliers take most of the "
            "int8 range: clip them in the preprocessing"
        )
    return notes
