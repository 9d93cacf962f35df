"""Write production.npz: labelled recordings from the other wrist, of the people who are in train and test already.

This is what a data team hands in after an alarm: `edgeloop data add production.npz`. Nobody of the fleet is in it.
"""

import argparse
from pathlib import Path

from prepare import TRAIN_STRIDE
from preprocessing import windows, write
from recordings import TEST_PEOPLE, TRAIN_PEOPLE, TRAINING_WRIST, Wrist, recordings


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=Path("production.npz"))
    output: Path = parser.parse_args().output
    other = [wrist for wrist in Wrist if wrist != TRAINING_WRIST]
    data = windows(recordings((*TRAIN_PEOPLE, *TEST_PEOPLE), other), TRAIN_STRIDE)
    write(data, output)
    print(f"{output}: {len(data.y)} windows from the {other[0]} wrist")


if __name__ == "__main__":
    main()
