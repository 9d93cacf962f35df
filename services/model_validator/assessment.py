"""From a release's model and test set to the answers of all gates: what the service and `edgeloop check` do alike."""

import numpy as np
import numpy.typing as npt

from services.model_validator.domain import Answers, Fit, LibraryFit, judge
from shared.boards import Board, ImageBoard, board_named
from shared.events import Check, CheckOutcome
from shared.inference import InferenceError
from shared.inference.litert import litert_float_outputs
from shared.inference.reference import reference_outputs
from shared.releases.datasets import Dataset, DatasetError, read_dataset
from shared.releases.histograms import quantise
from shared.releases.manifest import Budget
from shared.releases.release import Release


def assess(release: Release, test: bytes, int8: bytes, float32: bytes | None) -> tuple[Check, ...]:
    """Run both models on the test set, and judge their answers and the sizes of the firmware.

    Raises:
        shared.inference.ReferenceMissingError: this machine has no reference runtime.
    """
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
    numerics = release.manifest.model.numerics
    return Answers(
        labels=test.y[usable],
        int8=reference_outputs(numerics, int8, quantise(x, release.model.input)),
        float32=None if float32 is None else litert_float_outputs(float32, x),
        golden=reference_outputs(numerics, int8, golden).tobytes(),
        numerics=numerics,
    )


def _not_runnable(error: Exception) -> Check:
    return Check(
        name="runs-in-reference",
        outcome=CheckOutcome.FAILED,
        observed=str(error),
        allowed="a test set that the model takes, and models that TFLM and LiteRT run",
        detail="correct the model's input, its operators or the prepare step as said",
    )
