"""The handler: from a built release to one verdict on its data."""

from datetime import UTC, datetime
from uuid import uuid4

import numpy as np

from services.data_validator.handlers import Deps, validate_data
from shared.events import CheckOutcome, Event, Trigger, envelop
from shared.events.artifact import ArtifactBuilt
from shared.events.validation import DataRejected, DataValidated
from shared.releases.datasets import Dataset
from tests.data.gestures.release import MemoryBlobs, gestures_release, recordings


def built(digest: str) -> Event[ArtifactBuilt]:
    payload = ArtifactBuilt(
        project="acme-gestures", digest=digest, commit="c" * 40, trigger=Trigger.PUSH, firmware=(), rebuilt=True
    )
    now = datetime.now(UTC)
    return envelop(payload, event_id=uuid4(), source="artifact_builder", time=now, correlation_id=uuid4())


async def verdict(blobs: MemoryBlobs, digest: str) -> DataValidated | DataRejected:
    (said,) = await validate_data.call(built(digest), Deps(blobs))
    assert isinstance(said, DataValidated | DataRejected)
    assert said.project == "acme-gestures"
    assert said.digest == digest
    return said


async def test_healthy_recordings_are_validated() -> None:
    blobs = MemoryBlobs()
    digest, _ = gestures_release(blobs)
    said = await verdict(blobs, digest)
    assert isinstance(said, DataValidated), said


async def test_a_person_in_train_and_test_is_rejected() -> None:
    blobs = MemoryBlobs()
    digest, _ = gestures_release(blobs, test=recordings(90, 12, "ann"))
    said = await verdict(blobs, digest)
    assert isinstance(said, DataRejected)
    assert [check.name for check in said.checks if check.outcome is not CheckOutcome.PASSED] == ["group-leakage"]


async def test_a_dataset_in_another_format_is_rejected_with_the_place() -> None:
    blobs = MemoryBlobs()
    digest, release = gestures_release(blobs)
    blobs.kept[release.datasets.test.digest] = b"not an archive"
    said = await verdict(blobs, digest)
    assert isinstance(said, DataRejected)
    (check,) = said.checks
    assert check.name == "dataset-format"
    assert "test: not a readable .npz" in check.observed


async def test_further_datasets_are_judged_by_their_names() -> None:
    blobs = MemoryBlobs()
    synthetic = recordings(60, 13, "eve")
    digest, _ = gestures_release(
        blobs, more={"made.npz": recordings(60, 14, "gen"), "extra/field.npz": synthetic}, production=(synthetic,)
    )
    said = await verdict(blobs, digest)
    assert isinstance(said, DataRejected)
    (check,) = [check for check in said.checks if check.outcome is not CheckOutcome.PASSED]
    assert check.name == "group-leakage"
    assert "group eve of extra/field.npz" in check.detail


async def test_a_further_dataset_in_another_format_is_rejected_with_its_name() -> None:
    blobs = MemoryBlobs()
    digest, release = gestures_release(blobs, more={"made.npz": recordings(60, 14, "gen")})
    blobs.kept[release.datasets.more[0].blob.digest] = b"not an archive"
    said = await verdict(blobs, digest)
    assert isinstance(said, DataRejected)
    (check,) = said.checks
    assert "made.npz: not a readable .npz" in check.observed


async def test_an_empty_test_set_is_rejected_as_insufficient_evidence() -> None:
    blobs = MemoryBlobs()
    none = Dataset(np.zeros((0, 20, 3), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    digest, _ = gestures_release(blobs, test=none)
    said = await verdict(blobs, digest)
    assert isinstance(said, DataRejected)
    outcomes = {check.outcome for check in said.checks if check.outcome is not CheckOutcome.PASSED}
    assert outcomes == {CheckOutcome.INSUFFICIENT_EVIDENCE}
