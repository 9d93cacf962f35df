"""Write world.npz: what the virtual boards sense, people who are in neither the training nor the test set.

`environment` is the wrist. The rows are shuffled once, by a fixed seed, so that any short stretch has every exercise.
The labels stay with the boards' accuracy book-keeping: they are never on the bus.
"""

import argparse
from pathlib import Path

import numpy as np
from preprocessing import joined, windows
from recordings import FLEET_PEOPLE, Wrist, recordings

STRIDE = 50


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=Path("world.npz"))
    output: Path = parser.parse_args().output
    parts = {wrist: windows(recordings(FLEET_PEOPLE, [wrist]), STRIDE) for wrist in Wrist}
    environment = np.concatenate([np.full(len(part.y), wrist.value) for wrist, part in parts.items()])
    order = np.random.default_rng(0).permutation(len(environment))
    data = joined(list(parts.values())).rows(order)
    np.savez_compressed(output, x=data.x, y=data.y, group=data.group, environment=environment[order])
    print(f"{output}: " + ", ".join(f"{len(part.y)} windows {wrist}" for wrist, part in parts.items()))


if __name__ == "__main__":
    main()
