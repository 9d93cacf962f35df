"""Reacts to a built release: runs both models on the test set and says whether they reach the project's gates."""

import asyncio
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from services.model_validator.domain import Answers, Fit, LibraryFit, judge
from services.model_validator.metrics import count
from shared.boards import Board, ImageBoard, board_named
from shared.bus.outcomes import Retry
from shared.events import Check, CheckOutcome, Event
from shared.events.artifact import ArtifactBuilt
from shared.events.validation import ModelRejected, ModelValidated
from shared.inference import InferenceError, ReferenceMissingError
from shared.inference.litert import litert_float_outputs
from shared.inference.tflm import tflm_outputs
from shared.releases.datasets import Dataset, DatasetError, read_dataset
from shared.releases.gates import passes
from shared.releases.histograms import quantise
from shared.releases.manifest import Budget
from shared.releases.release import Release
from shared.runtime.handlers import Emissions, Route, works_on
from shared.store import Blobs, load_release

_RUNTIME_MISSING_DELAY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers need."""

    blobs: Blobs


@works_on(ArtifactBuilt, emits=(ModelValidated, ModelRejected))
async def validate_model(event: Event[ArtifactBuilt], deps: Deps) -> Emissions:
    """Judge the release's model and the size of its firmware."""
    built = event.data
    release = await load_release(deps.blobs, built.digest)
    files = (release.datasets.test, release.model.int8)
    test, int8 = [await deps.blobs.get(blob.digest) for blob in files]
    reference = release.model.float32
    float32 = None if reference is None else await deps.blobs.get(reference.digest)
    try:
        checks = await asyncio.to_thread(_judge, release, test, int8, float32)
    except ReferenceMissingError as error:
        raise Retry(str(error), delay_s=_RUNTIME_MISSING_DELAY_S) from error
    count(checks)
    verdict = ModelValidated if passes(checks) else ModelRejected
    return [verdict(project=built.project, digest=built.digest, checks=checks)]


def _judge(release: Release, test: bytes, int8: bytes, float32: bytes | None) -> tuple[Check, ...]:
    try:
        answers = _answers(release, read_dataset(test, name="test"), int8, float32)
    except (InferenceError, DatasetError) as error:
        return (_not_runnable(error),)
    manifest = release.manifest
    fits = [_fit(board_named(name), release) for name in manifest.boards]
    return judge(answers, manifest.gates, len(manifest.labels), release.golden.output, fits)


def _fit(board: Board, release: Release) -> Fit | LibraryFit:
    budget = release.manifest.budgets.get(board.name, Budget())
    if isinstance(board, ImageBoard):
        return Fit(board, budget, release.firmware_for(board.name))
    return LibraryFit(board, budget, release.libraries_for(board.name))


def _answers(release: Release, test: Dataset, int8: bytes, float32: bytes | None) -> Answers:
    # Rows with NaN have no quantised form; the data validator names them, this one must only not fall over them.
    usable = np.isfinite(test.x).all(axis=tuple(range(1, test.x.ndim)))
    x: npt.NDArray[np.float32] = test.x[usable]
    golden = np.frombuffer(release.golden.input, dtype=np.int8)[None]
    return Answers(
        labels=test.y[usable],
        int8=tflm_outputs(int8, quantise(x, release.model.input)),
        float32=None if float32 is None else litert_float_outputs(float32, x),
        golden=tflm_outputs(int8, golden).tobytes(),
    )


def _not_runnable(error: Exception) -> Check:
    return Check(
        name="runs-in-reference",
        outcome=CheckOutcome.FAILED,
        observed=str(error),
        allowed="a test set that the model takes, and models that TFLM and LiteRT run",
        detail="correct the model's input, its operators or the prepare step as said",
    )


ROUTES: Final[tuple[Route, ...]] = (validate_model,)
