"""From a recording to the windows that the model takes: the same code for training data and for the boards' world."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from recordings import Recording

WINDOW = 100
"""Samples: two seconds at 50 Hz."""

# The sensor's range: 4 g, and 500 degrees per second in rad/s. What exceeds it clips, as in the sensor.
FULL_SCALE = np.array([4.0] * 3 + [np.deg2rad(500.0)] * 3)


@dataclass(frozen=True, slots=True)
class Windows:
    """x: (rows, 100, 6) float32 in -1 to 1; y: (rows,) class index; group: (rows,) person."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]

    def rows(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Windows":
        """Return the rows that `keep` selects, by mask or by index."""
        return Windows(self.x[keep], self.y[keep], self.group[keep])


def scale(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return `samples`, (samples, 6) in g and rad/s, as shares of the sensor's full scale."""
    shares: npt.NDArray[np.float32] = np.clip(samples / FULL_SCALE, -1.0, 1.0).astype(np.float32)
    return shares


def windows(source: Sequence[Recording], stride: int) -> Windows:
    """Cut recordings into windows that begin every `stride` samples."""
    x: list[npt.NDArray[np.float32]] = []
    y: list[int] = []
    group: list[int] = []
    for recording in source:
        scaled = scale(recording.samples)
        starts = range(0, len(scaled) - WINDOW + 1, stride)
        x.extend(scaled[start : start + WINDOW] for start in starts)
        y.extend([recording.label] * len(starts))
        group.extend([recording.person] * len(starts))
    return Windows(
        np.array(x, np.float32).reshape(-1, WINDOW, len(FULL_SCALE)),
        np.array(y, np.int64),
        np.array(group, np.int64),
    )


def joined(parts: Sequence[Windows]) -> Windows:
    """Return the rows of all `parts`, in order."""
    return Windows(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.group for part in parts]),
    )


def read(path: Path) -> Windows:
    """Read a dataset in Edgeloop's format."""
    with np.load(path, allow_pickle=False) as arrays:
        return Windows(arrays["x"], arrays["y"], arrays["group"])


def write(data: Windows, path: Path) -> None:
    """Write a dataset in Edgeloop's format."""
    np.savez_compressed(path, x=data.x, y=data.y, group=data.group)
