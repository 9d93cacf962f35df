"""The recordings, and which people may be seen by whom.

seglearn's own code is old, so it is never imported: only its data file is read, found through the package's metadata.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import numpy.typing as npt

LABELS = ("pendulum", "abduction", "elevation", "internal-rotation", "external-rotation", "trapezius", "rowing")

# Split by person, in the order of their numbers: nobody is in two of the three.
TRAIN_PEOPLE = (1, 2, 3, 4, 5)
TEST_PEOPLE = (6, 7)
FLEET_PEOPLE = (8, 9, 10)


class Wrist(StrEnum):
    """Where the watch was worn."""

    LEFT = "left"
    RIGHT = "right"


TRAINING_WRIST = Wrist.RIGHT
_WRISTS = (Wrist.LEFT, Wrist.RIGHT)  # the file's codes 0 and 1


@dataclass(frozen=True, slots=True)
class Recording:
    """One person doing about twenty repetitions of one exercise."""

    samples: npt.NDArray[np.float64]
    """(samples, 6): acceleration in g, angular velocity in rad/s, at 50 Hz."""
    label: int
    person: int
    wrist: Wrist


def data_file() -> Path:
    """Return the path of `watch_dataset.npy`."""
    try:
        found = [file for file in files("seglearn") or () if file.name == "watch_dataset.npy"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise SystemExit(
            "the recordings are missing: the Python package seglearn carries them. Next: pip install seglearn==1.2.5"
        )
    return Path(str(found[0].locate()))


def recordings(people: Collection[int], wrists: Collection[Wrist]) -> list[Recording]:
    """Return the recordings of `people` with the watch on one of `wrists`, in the file's order."""
    # A pickled dictionary: it comes from a package that the lock file pins by hash.
    data = np.load(data_file(), allow_pickle=True).item()
    every = (
        Recording(samples=samples, label=int(label), person=int(person), wrist=_WRISTS[int(side)])
        for samples, label, person, side in zip(data["X"], data["y"], data["subject"], data["side"], strict=True)
    )
    return [recording for recording in every if recording.person in people and recording.wrist in wrists]
