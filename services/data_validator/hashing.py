"""Equal windows and equal stretches of samples, found by 64-bit hashes over the bits of the values."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

RUN_SAMPLES: Final = 8
"""So many equal consecutive samples of a real sensor are no coincidence."""

_MULTIPLIER: Final = np.uint64(
    0x9E3779B97F4A7C15
)  # odd, so that multiplying modulo 2**64 loses nothing (Fibonacci hashing)


def window_hashes(x: npt.NDArray[np.float32]) -> Hashes:
    """Return one hash for each row of `x`, of any shape."""
    return _fold(_bits(x.reshape(len(x), math.prod(x.shape[1:]))))


def duplicate_rows(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows that equal another row with another label."""
    _, index = np.unique(window_hashes(x), return_inverse=True)
    lowest = np.full(len(x), np.iinfo(np.int64).max)
    highest = np.full(len(x), np.iinfo(np.int64).min)
    np.minimum.at(lowest, index, y)
    np.maximum.at(highest, index, y)
    rows: npt.NDArray[np.int64] = np.flatnonzero(lowest[index] != highest[index])
    return rows


def shared_runs(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return for each test window of (time, channels) whether a run of its samples is also in a training window.

    Training runs start at every sample, test runs at every eighth: any overlap of 15 samples or more is found. Runs
    that stand still are left out, since a resting sensor repeats itself. Data that is no series shares no runs.
    """
    if test.ndim != 3 or min(len(train), len(test)) == 0 or test.shape[1] < RUN_SAMPLES:
        return np.zeros(len(test), dtype=np.bool_)
    train_hashes, train_moves = _runs(train, step=1)
    test_hashes, test_moves = _runs(test, step=RUN_SAMPLES)
    found = np.logical_and(np.isin(test_hashes, train_hashes[train_moves]), test_moves)
    shared: npt.NDArray[np.bool_] = np.any(found, axis=1)
    return shared


def _runs(x: npt.NDArray[np.float32], step: int) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    samples = _fold(_bits(x))
    runs = np.lib.stride_tricks.sliding_window_view(samples, RUN_SAMPLES, axis=1)[:, ::step]
    return _fold(runs), (runs != runs[..., :1]).any(axis=-1)


def _bits(x: npt.NDArray[np.float32]) -> Hashes:
    # Adding zero turns -0.0 into 0.0: they are the same reading.
    return (np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)


def _fold(values: Hashes) -> Hashes:
    """Hash the last axis away, in order (a polynomial modulo 2**64, mixed at every step)."""
    state = np.zeros(values.shape[:-1], dtype=np.uint64)
    for position in range(values.shape[-1]):
        state = (state ^ values[..., position] ^ (state >> np.uint64(29))) * _MULTIPLIER
    return state
