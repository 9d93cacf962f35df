"""A release as the subject of a test: its own image, on its own test set, as its manifest says."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeloop.compiling import emulated_board
from edgeloop.errors import UsageError
from edgeloop.lab.building import Built, build
from edgeloop.lab.subject import PLAYBACK, Subject, Wish, chosen, played, sensor_windows
from edgeloop.models import reference_answers
from shared.procedures import Workload
from shared.releases.datasets import read_dataset
from shared.releases.histograms import quantise
from shared.releases.release import Release


def of_release(release: Release, digest: str, contents: Mapping[str, bytes], wish: Wish, where: Path) -> Subject:
    """Return what is tested: the release's image, as boards would get it.

    Sensor playback is the exception: fleets' images have no reader for traces, so that it compiles one that has.

    Args:
        release: what it is made of.
        digest: its name.
        contents: the model, the test set and the board's image, by their digests.
        wish: what the user asked for.
        where: what errors call it.

    Raises:
        UsageError: it has no image for the board, or an option does not fit.
        InfrastructureError: there is no reference on this machine.
    """
    manifest, tflite = release.manifest, contents[release.model.int8.digest]
    built = _built(where, wish, release, contents)
    dataset = read_dataset(contents[release.datasets.test.digest], name="test")
    rows = chosen(len(dataset), wish)
    x = dataset.x[rows]
    rows_of_bytes = np.ascontiguousarray(quantise(x, release.model.input).reshape(len(x), -1))
    inputs, labels = played(rows_of_bytes, dataset.y[rows], wish)
    board = emulated_board(wish.board)
    budget = manifest.budgets.get(board.name)
    workload = Workload(
        board=board,
        model_digest=release.model.int8.digest,
        inputs=inputs,
        expected=reference_answers(where, tflite, manifest.model.numerics, inputs),
        labels=labels,
        numerics=manifest.model.numerics,
        static_ram_bytes=built.ram_bytes,
        accuracy=manifest.gates.accuracy,
        ram_bytes=None if budget is None else budget.ram_bytes,
    )
    windows = sensor_windows(x, release.model.input, wish.sensors, manifest.input.channels)
    return Subject(release.project, digest, built, workload, windows)


def refuse_what_the_manifest_says(wish: Wish) -> None:
    """Raise UsageError for options that a release's manifest answers."""
    given = {"--inputs": wish.inputs, "--labels": wish.labels, "--numerics": wish.numerics, "--accuracy": wish.accuracy}
    if named := [option for option, value in given.items() if value is not None]:
        raise UsageError(
            f"{', '.join(named)}: a release is tested on its own test set, as its edgeloop.yaml says",
            next_step="leave it out, or name the model's file instead",
        )


def _built(where: Path, wish: Wish, release: Release, contents: Mapping[str, bytes]) -> Built:
    board = emulated_board(wish.board)
    firmware = release.firmware_for(board.name)
    if firmware is None:
        have = ", ".join(firmware.board for firmware in release.firmware) or "no board"
        raise UsageError(
            f"--board {board.name}: the release has firmware for {have}",
            next_step="name one of these, or add the board to boards in edgeloop.yaml",
        )
    if wish.procedure != PLAYBACK:
        return Built(contents[firmware.image.digest], firmware.toolchain, firmware.ram_bytes)
    return build(
        where,
        contents[release.model.int8.digest],
        board,
        numerics=release.manifest.model.numerics,
        toolchain=wish.toolchain,
        data=wish.data,
        reader=True,
    )
