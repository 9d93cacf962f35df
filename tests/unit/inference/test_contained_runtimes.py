"""Reference runtimes in a process of their own: what a crash says, and of whom."""

import signal
from pathlib import Path

import numpy as np
import pytest

from shared.events import digest_of
from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceMissingError, ReferenceUnavailableError, RuntimeEndedError
from shared.inference.answering import ANSWERS_FILE, BEGUN_FILE, CRASHES, Question, Runtime, outputs_file, read
from shared.inference.reference import answers, reference_outputs
from tests.data.gestures.release import FLOAT32, INT8
from tests.tflite_models import AS_AFTER_TRAINING_ON_ZEROS, SOUND

ROWS = np.random.default_rng(1).integers(-128, 128, (5, 20, 3), np.int8)
WINDOWS = np.random.default_rng(1).normal(0, 0.5, (5, 20, 3)).astype(np.float32)


def test_questions_of_one_process_are_answered_in_their_order() -> None:
    questions = [
        Question(Runtime.TFLM, INT8, ROWS),
        Question(Runtime.LITERT_FLOAT32, FLOAT32, WINDOWS),
        Question(Runtime.LITERT, INT8, ROWS[:1]),
    ]
    tflm, float32, litert = answers(questions)
    assert (tflm == reference_outputs(Numerics.TFLM, INT8, ROWS)).all()
    assert (str(float32.dtype), float32.shape) == ("float32", (5, 3))
    assert (litert == reference_outputs(Numerics.LITERT, INT8, ROWS[:1])).all()


def test_a_crash_names_the_model_that_brought_it_about_and_the_signal() -> None:
    questions = [Question(Runtime.TFLM, INT8, ROWS), Question(Runtime.TFLM, AS_AFTER_TRAINING_ON_ZEROS, ROWS)]
    with pytest.raises(RuntimeEndedError) as caught:
        answers(questions)
    assert caught.value.model == digest_of(AS_AFTER_TRAINING_ON_ZEROS)
    assert caught.value.signal == signal.SIGABRT
    assert caught.value.model in str(caught.value)
    assert "(SIGABRT)" in str(caught.value)


def test_a_crash_leaves_the_next_question_unharmed() -> None:
    window = np.zeros((1, 8, 1), np.int8)
    with pytest.raises(RuntimeEndedError):
        reference_outputs(Numerics.TFLM, AS_AFTER_TRAINING_ON_ZEROS, window)
    assert reference_outputs(Numerics.TFLM, SOUND, window).shape == (1, 2)


def test_the_runtime_sees_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGELOOP_NATS_PASSWORD", "secret")
    code = "import os\nraise ImportError(sorted(name for name in os.environ if name.startswith('EDGELOOP')))"
    (tmp_path / "tflite_micro.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ReferenceMissingError, match=r"\(\[\]\)"):
        reference_outputs(Numerics.TFLM, INT8, ROWS)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ReferenceUnavailableError),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", ReferenceUnavailableError),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", RuntimeEndedError),
        ("import os; os._exit(0)", RuntimeEndedError),
        ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", RuntimeEndedError),
        ("held = bytearray(2**40)", RuntimeEndedError),
    ],
    ids=["out-of-memory-killer", "stopped", "crash", "left", "endless", "greedy"],
)
def test_only_an_end_that_a_model_can_bring_about_is_blamed_on_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, kind: type[Exception]
) -> None:
    (tmp_path / "tflite_micro.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(kind, match=digest_of(INT8)) as caught:
        reference_outputs(Numerics.TFLM, INT8, ROWS)
    assert isinstance(caught.value, InferenceError) == (kind is RuntimeEndedError)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {ANSWERS_FILE: b"[]"},
        {ANSWERS_FILE: b'[{"shape": [5, 3]}]'},
        {ANSWERS_FILE: b'[{"shape": [5, 3]}]', outputs_file(0): b"\0" * 14},
        {ANSWERS_FILE: b'[{"shape": [3, 5]}]', outputs_file(0): b"\0" * 15},
        {ANSWERS_FILE: b"{", outputs_file(0): b"\0" * 15},
        {ANSWERS_FILE: b'[{"shape": [5, "3.5"]}]', outputs_file(0): b"\0" * 15},
    ],
)
def test_half_an_answer_is_none(files: dict[str, bytes]) -> None:
    with pytest.raises(RuntimeEndedError, match="leaves no result"):
        read([Question(Runtime.TFLM, INT8, ROWS)], files | {BEGUN_FILE: b"."}, 0, ())


@pytest.mark.parametrize("number", sorted(set(signal.Signals)))
def test_every_signal_has_an_owner(number: int) -> None:
    with pytest.raises((RuntimeEndedError, ReferenceUnavailableError)) as caught:
        read([Question(Runtime.TFLM, INT8, ROWS)], {}, -number, ("Segmentation fault",))
    assert isinstance(caught.value, RuntimeEndedError) == (number in CRASHES)


def test_nothing_is_left_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeEndedError):
        reference_outputs(Numerics.TFLM, AS_AFTER_TRAINING_ON_ZEROS, ROWS)
    assert list(tmp_path.iterdir()) == []
