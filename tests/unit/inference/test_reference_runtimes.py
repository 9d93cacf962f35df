"""TFLM and LiteRT on a small real model: see tests/data/gestures."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceMissingError, litert, tflm
from shared.inference.litert import litert_float_outputs, litert_int8_outputs
from shared.inference.reference import reference_outputs
from shared.inference.tflm import tflm_outputs

GESTURES = Path(__file__).parents[2] / "data" / "gestures"
INT8, FLOAT32, BATCHED = ((GESTURES / f"{name}.tflite").read_bytes() for name in ("int8", "float32", "batched"))


def windows(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(0, 0.7, (rows, 20, 3)).astype(np.float32)


def test_tflm_answers_every_row_with_one_score_a_class() -> None:
    inputs = np.random.default_rng(1).integers(-128, 128, (50, 20, 3)).astype(np.int8)
    outputs = tflm_outputs(INT8, inputs)
    assert outputs.shape == (50, 3)
    assert outputs.dtype == np.int8
    assert len(np.unique(outputs, axis=0)) > 10


def test_tflm_gives_a_row_the_same_bits_alone_and_among_others() -> None:
    inputs = np.random.default_rng(2).integers(-128, 128, (8, 20, 3)).astype(np.int8)
    together = tflm_outputs(INT8, inputs)
    assert all((tflm_outputs(INT8, inputs[row : row + 1])[0] == together[row]).all() for row in range(8))


def test_tflm_takes_flat_rows() -> None:
    inputs = np.random.default_rng(2).integers(-128, 128, (8, 20, 3)).astype(np.int8)
    assert (tflm_outputs(INT8, inputs.reshape(8, -1)) == tflm_outputs(INT8, inputs)).all()


def test_litert_gives_the_same_scores_in_batches_and_one_by_one() -> None:
    x = windows(600)  # two full batches and a rest
    single, batched = litert_float_outputs(FLOAT32, x), litert_float_outputs(BATCHED, x)
    assert single.shape == batched.shape == (600, 3)
    np.testing.assert_allclose(single, batched, atol=1e-6)
    np.testing.assert_allclose(single.sum(axis=1), 1, atol=1e-5)


def test_litert_gives_an_int8_row_the_same_bits_alone_among_others_and_flat() -> None:
    inputs = np.random.default_rng(2).integers(-128, 128, (8, 20, 3)).astype(np.int8)
    together = litert_int8_outputs(INT8, inputs)
    assert (litert_int8_outputs(INT8, inputs.reshape(8, -1)) == together).all()
    assert all((litert_int8_outputs(INT8, inputs[row : row + 1])[0] == together[row]).all() for row in range(8))


def test_each_family_of_numerics_has_its_reference() -> None:
    inputs = np.random.default_rng(3).integers(-128, 128, (100, 20, 3)).astype(np.int8)
    answers = {numerics: reference_outputs(numerics, INT8, inputs) for numerics in Numerics}
    assert (answers[Numerics.TFLM] == tflm_outputs(INT8, inputs)).all()
    assert (answers[Numerics.LITERT] == litert_int8_outputs(INT8, inputs)).all()
    assert (answers[Numerics.TFLM] != answers[Numerics.LITERT]).any()


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_give_no_outputs(rows: int) -> None:
    assert tflm_outputs(INT8, np.zeros((rows, 20, 3), np.int8)).shape == (rows, 3)
    assert litert_float_outputs(BATCHED, np.zeros((rows, 20, 3), np.float32)).shape == (rows, 3)


@pytest.mark.parametrize(
    ("model", "inputs", "says"),
    [
        (INT8, np.zeros((1, 20, 3), np.float32), "quantise them"),
        (INT8, np.zeros((1, 20, 4), np.int8), "(1, 20, 3)"),
        (FLOAT32, np.zeros((1, 20, 3), np.int8), "full int8"),
        (INT8[:2000], np.zeros((1, 20, 3), np.int8), "cannot load"),
        (b"", np.zeros((1, 20, 3), np.int8), "cannot load"),
    ],
)
@pytest.mark.parametrize("numerics", Numerics)
def test_the_int8_references_say_what_is_wrong_with_the_model_or_inputs(
    numerics: Numerics, model: bytes, inputs: Any, says: str
) -> None:
    with pytest.raises(InferenceError) as error:
        reference_outputs(numerics, model, inputs)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("model", "inputs", "says"),
    [
        (FLOAT32, np.zeros((1, 20, 3), np.float64), "takes float32"),
        (FLOAT32, np.zeros((1, 20, 4), np.float32), "(20, 3)"),
        (INT8, np.zeros((1, 20, 3), np.float32), "int8"),
        (FLOAT32[:2000], np.zeros((1, 20, 3), np.float32), "cannot load"),
        (b"", np.zeros((1, 20, 3), np.float32), "cannot load"),
    ],
)
def test_litert_says_what_is_wrong_with_the_model_or_inputs(model: bytes, inputs: Any, says: str) -> None:
    with pytest.raises(InferenceError) as error:
        litert_float_outputs(model, inputs)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("platform", "machine", "says"),
    [("darwin", "arm64", "published for linux x86_64 only"), ("linux", "x86_64", "pip install")],
)
def test_a_missing_tflm_is_explained_for_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, says: str
) -> None:
    real = builtins.__import__

    def without_tflm(name: str, *rest: Any) -> Any:
        if name.startswith("tflite_micro"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_tflm)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(ReferenceMissingError) as error:
        tflm_outputs(INT8, np.zeros((1, 20, 3), np.int8))
    assert says in str(error.value)
    assert f"{platform} {machine}" in str(error.value)


def test_each_runtime_says_its_rounding_family() -> None:
    assert (tflm.NUMERICS, litert.NUMERICS) == (Numerics.TFLM, Numerics.LITERT)


def test_services_can_be_imported_without_any_runtime() -> None:
    code = (
        "import sys\n"
        "import services.data_validator.handlers, services.model_validator.handlers\n"
        "import services.device_lab_scheduler.handlers\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "heavy = {'tflite_micro', 'ai_edge_litert', 'unicorn', 'tensorflow'} & loaded\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
