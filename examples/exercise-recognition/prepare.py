"""Write train.npz and test.npz into $EDGELOOP_OUTPUT_DIR.

On retraining, $EDGELOOP_PRODUCTION_DIR holds labelled windows from the field. They join the original ones by person:
whoever is in the test set stays there, everybody else trains. So no person is ever on both sides.
"""

import os
from pathlib import Path

import numpy as np
from preprocessing import WINDOW, Windows, joined, read, windows, write
from recordings import TEST_PEOPLE, TRAIN_PEOPLE, TRAINING_WRIST, recordings

TRAIN_STRIDE = 25
TEST_STRIDE = WINDOW  # no overlap, so that every test row is new evidence
MAXIMUM_TEST_ROWS = 300
"""Every one of them runs on every emulated board."""


def thinned(data: Windows, maximum: int) -> Windows:
    """Return at most `maximum` rows, evenly spaced, so that every person, exercise and wrist keeps its share."""
    if len(data.y) <= maximum:
        return data
    return data.rows(np.linspace(0, len(data.y) - 1, maximum).round().astype(np.int64))


def merged(train: Windows, test: Windows, production: list[Windows]) -> tuple[Windows, Windows]:
    """Return train and test with the production rows added, by person."""
    is_test = [np.isin(part.group, TEST_PEOPLE) for part in production]
    return (
        joined([train, *(part.rows(~mask) for part, mask in zip(production, is_test, strict=True))]),
        joined([test, *(part.rows(mask) for part, mask in zip(production, is_test, strict=True))]),
    )


def main() -> None:
    """Run the step."""
    output = Path(os.environ["EDGELOOP_OUTPUT_DIR"])
    train = windows(recordings(TRAIN_PEOPLE, [TRAINING_WRIST]), TRAIN_STRIDE)
    test = windows(recordings(TEST_PEOPLE, [TRAINING_WRIST]), TEST_STRIDE)
    if directory := os.environ.get("EDGELOOP_PRODUCTION_DIR"):
        train, test = merged(train, test, [read(file) for file in sorted(Path(directory).glob("*.npz"))])
    test = thinned(test, MAXIMUM_TEST_ROWS)
    write(train, output / "train.npz")
    write(test, output / "test.npz")
    print(f"train: {len(train.y)} windows of people {np.unique(train.group).tolist()}")
    print(f"test: {len(test.y)} windows of people {np.unique(test.group).tolist()}")


if __name__ == "__main__":
    main()
