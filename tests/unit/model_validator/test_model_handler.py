"""The handler: a real model in TFLM and LiteRT, and one verdict."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from services.model_validator.handlers import Deps, validate_model
from shared.bus.outcomes import Retry
from shared.events import CheckOutcome, Event, Trigger, envelop
from shared.events.artifact import ArtifactBuilt
from shared.events.validation import ModelRejected, ModelValidated
from shared.releases.datasets import Dataset
from tests.data.gestures.release import FLOAT32, MemoryBlobs, gestures_release, recordings
from tests.tflite_models import AS_AFTER_TRAINING_ON_ZEROS


def built(digest: str) -> Event[ArtifactBuilt]:
    payload = ArtifactBuilt(
        project="acme-gestures", digest=digest, commit="c" * 40, trigger=Trigger.PUSH, firmware=(), rebuilt=True
    )
    now = datetime.now(UTC)
    return envelop(payload, event_id=uuid4(), source="artifact_builder", time=now, correlation_id=uuid4())


async def verdict(blobs: MemoryBlobs, digest: str) -> ModelValidated | ModelRejected:
    (said,) = await validate_model.call(built(digest), Deps(blobs))
    assert isinstance(said, ModelValidated | ModelRejected)
    assert said.digest == digest
    return said


def failed(said: ModelValidated | ModelRejected) -> list[str]:
    return [check.name for check in said.checks if check.outcome is not CheckOutcome.PASSED]


async def test_a_model_that_reaches_its_gates_is_validated() -> None:
    blobs = MemoryBlobs()
    digest, _ = gestures_release(blobs)
    said = await verdict(blobs, digest)
    assert isinstance(said, ModelValidated), said


async def test_a_model_that_was_tested_on_noise_is_rejected() -> None:
    blobs = MemoryBlobs()
    noise = recordings(90, 13, "eve")
    shuffled = Dataset(noise.x, np.random.default_rng(0).permutation(noise.y), noise.group)
    digest, _ = gestures_release(blobs, test=shuffled)
    said = await verdict(blobs, digest)
    assert isinstance(said, ModelRejected)
    assert failed(said) == ["int8-accuracy"]


async def test_rows_with_nan_count_as_no_evidence() -> None:
    blobs = MemoryBlobs()
    broken = recordings(31, 14, "eve")
    broken.x[:2, 0, 0] = np.nan
    digest, _ = gestures_release(blobs, test=broken)
    assert failed(await verdict(blobs, digest)) == ["enough-rows"]


async def test_a_float_model_in_place_of_the_int8_one_is_rejected_and_named() -> None:
    blobs = MemoryBlobs()
    digest, _ = gestures_release(blobs, int8=FLOAT32)
    said = await verdict(blobs, digest)
    assert failed(said) == ["runs-in-reference"]
    assert "full int8" in said.checks[0].observed


async def test_a_model_over_which_tflm_aborts_is_rejected_and_the_next_release_is_judged() -> None:
    blobs = MemoryBlobs()
    hostile, release = gestures_release(blobs, int8=AS_AFTER_TRAINING_ON_ZEROS)
    sound, _ = gestures_release(blobs)
    said = await verdict(blobs, hostile)
    assert isinstance(said, ModelRejected)
    assert failed(said) == ["runs-in-reference"]
    assert "TFLM ends with signal 6 (SIGABRT)" in said.checks[0].observed
    assert release.model.int8.digest in said.checks[0].observed
    assert isinstance(await verdict(blobs, sound), ModelValidated)


async def test_a_validator_without_tflm_asks_for_a_retry_and_rejects_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blobs = MemoryBlobs()
    digest, _ = gestures_release(blobs)
    (tmp_path / "tflite_micro.py").write_text("raise ImportError('not for this platform')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Retry):
        await verdict(blobs, digest)


async def test_the_event_loop_lives_while_models_run() -> None:
    blobs = MemoryBlobs()
    digest, _ = gestures_release(blobs, test=recordings(20_000, 15, "eve"))
    work = asyncio.create_task(verdict(blobs, digest))
    beats = 0
    while not work.done():
        await asyncio.sleep(0.005)
        beats += 1
    assert isinstance(await work, ModelValidated)
    assert beats > 5
