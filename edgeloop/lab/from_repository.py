"""A repository as the subject of a test: built as a push would be, and tested on its release's own test set."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeloop import checking
from edgeloop.compiling import emulated_board
from edgeloop.errors import GateFailedError, UsageError
from edgeloop.lab.building import Built, build
from edgeloop.lab.subject import PLAYBACK, Subject, Wish, chosen, played, sensor_windows
from edgeloop.layout import compiler_cache, user_cache
from edgeloop.models import reference_answers
from services.artifact_builder.pipeline import BuildResult
from shared.procedures import Workload
from shared.releases.datasets import read_dataset
from shared.releases.histograms import quantise
from shared.releases.release import Release


def of_repository(path: Path, wish: Wish, told: Callable[[str], None]) -> Subject:
    """Build a working tree as `edgeloop check` does. What is tested is the release's image, as boards would get it.

    Sensor playback is the exception: fleets' images have no reader for traces, so that it compiles one that has.

    Raises:
        UsageError: the manifest, or an option that the manifest answers.
        GateFailedError: there is no release.
        InfrastructureError: something that this machine lacks.
    """
    emulated_board(wish.board)
    _refuse_what_the_manifest_says(wish)
    bench = checking.Bench(
        data=wish.data,
        cache=user_cache() / "stages",
        compiler_cache=compiler_cache(),
        toolchain=wish.toolchain,
    )
    report, result = asyncio.run(checking.check(path.resolve(), bench, lambda stage: told(f"{stage} …")))
    if result is None:
        assert report.failure is not None
        said = (f"{path}: no release: {report.failure.stage}: {report.failure.reason}", *report.failure.last_lines)
        raise GateFailedError("\n".join(said), next_step=f"mend it until `edgeloop check {path}` builds")
    return _of_release(report.project, path, wish, result)


def _refuse_what_the_manifest_says(wish: Wish) -> None:
    given = {"--inputs": wish.inputs, "--labels": wish.labels, "--numerics": wish.numerics, "--accuracy": wish.accuracy}
    if named := [option for option, value in given.items() if value is not None]:
        raise UsageError(
            f"{', '.join(named)}: a repository is tested on its own test set, as its edgeloop.yaml says",
            next_step="leave it out, or name the model's file instead of the repository",
        )


def _of_release(project: str, path: Path, wish: Wish, result: BuildResult) -> Subject:
    release, contents = result.release, {artifact.blob.digest: artifact.data for artifact in result.artifacts}
    manifest, tflite = release.manifest, contents[release.model.int8.digest]
    dataset = read_dataset(contents[release.datasets.test.digest], name="test")
    rows = chosen(len(dataset), wish)
    x = dataset.x[rows]
    rows_of_bytes = np.ascontiguousarray(quantise(x, release.model.input).reshape(len(x), -1))
    inputs, labels = played(rows_of_bytes, dataset.y[rows], wish)
    built = _built(path, wish, release, contents)
    board = emulated_board(wish.board)
    budget = manifest.budgets.get(board.name)
    workload = Workload(
        board=board,
        model_digest=release.model.int8.digest,
        inputs=inputs,
        expected=reference_answers(path, tflite, manifest.model.numerics, inputs),
        labels=labels,
        numerics=manifest.model.numerics,
        static_ram_bytes=built.ram_bytes,
        accuracy=manifest.gates.accuracy,
        ram_bytes=None if budget is None else budget.ram_bytes,
    )
    windows = sensor_windows(x, release.model.input, wish.sensors, manifest.input.channels)
    return Subject(project, result.digest, built, workload, windows)


def _built(path: Path, wish: Wish, release: Release, contents: dict[str, bytes]) -> Built:
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
        path,
        contents[release.model.int8.digest],
        board,
        numerics=release.manifest.model.numerics,
        toolchain=wish.toolchain,
        data=wish.data,
        reader=True,
    )
