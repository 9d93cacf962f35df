"""From a release's model and test set to the answers of all gates: what the service and `edgeloop check` do alike."""

import numpy as np
import numpy.typing as npt

from services.model_validator.domain import Answers, Fit, LibraryFit, judge
from shared.boards import Board, ImageBoard, board_named
from shared.events import Check, CheckOutcome
from shared.inference import InferenceError
from shared.inference.answering import Question, Runtime
from shared.inference.reference import answers
from shared.releases.datasets import Dataset, DatasetError, read_dataset
from shared.releases.histograms import quantise
from shared.releases.manifest import Budget
from shared.releases.release import Release


def assess(release: Release, test: bytes, int8: bytes, float32: bytes | None) -> tuple[Check, ...]:
    """Run both models on the test set, and judge their answers and the sizes of the firmware.

    Raises:
        shared.inference.ReferenceUnavailableError: this machine gives no answer.
    """
    try:
        answered = _answers(release, read_dataset(test, name="test"), int8, float32)
    except (InferenceError, DatasetError) as error:
        return (_not_runnable(error),)
    manifest = release.manifest
    fits = [_fit(board_named(name), release) for name in manifest.boards]
    return judge(answered, manifest.gates, len(manifest.labels), release.golden.output, fits)


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
    runtime = Runtime.of(numerics)
    questions = [Question(runtime, int8, quantise(x, release.model.input)), Question(runtime, int8, golden)]
    if float32 is not None:
        questions.append(Question(Runtime.LITERT_FLOAT32, float32, x))
    outputs, golden_output, *reference = answers(questions)
    return Answers(
        labels=test.y[usable],
        int8=outputs,
        float32=reference[0] if reference else None,
        golden=golden_output.tobytes(),
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
