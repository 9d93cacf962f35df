"""Reacts to a built release: reads its datasets and says whether they can be trusted."""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.data_validator.domain import Evidence, judge
from services.data_validator.metrics import count
from shared.events import Check, CheckOutcome, Event
from shared.events.artifact import ArtifactBuilt
from shared.events.validation import DataRejected, DataValidated
from shared.releases.datasets import DatasetError, read_dataset
from shared.releases.gates import passes
from shared.releases.release import Release
from shared.runtime.handlers import Emissions, Route, works_on
from shared.store import Blobs, load_release


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers need."""

    blobs: Blobs


@works_on(ArtifactBuilt, emits=(DataValidated, DataRejected))
async def validate_data(event: Event[ArtifactBuilt], deps: Deps) -> Emissions:
    """Judge the train, test and production datasets of the release."""
    built = event.data
    release = await load_release(deps.blobs, built.digest)
    files = release.datasets
    blobs = [await deps.blobs.get(blob.digest) for blob in (files.train, files.test, *files.production)]
    checks = await asyncio.to_thread(_judge, release, blobs)
    count(checks)
    verdict = DataValidated if passes(checks) else DataRejected
    return [verdict(project=built.project, digest=built.digest, checks=checks)]


def _judge(release: Release, blobs: list[bytes]) -> tuple[Check, ...]:
    names = ["train", "test", *(f"production[{index}]" for index in range(len(blobs) - 2))]
    try:
        train, test, *production = (read_dataset(data, name=name) for name, data in zip(names, blobs, strict=True))
    except DatasetError as error:
        unreadable = Check(
            name="dataset-format",
            outcome=CheckOutcome.FAILED,
            observed=str(error),
            allowed="an .npz of x (rows, *input shape) float32, y (rows,) class index and group (rows,)",
            detail="correct what the prepare step writes",
        )
        return (unreadable,)
    return judge(Evidence(release.manifest, train, test, tuple(production)))


ROUTES: Final[tuple[Route, ...]] = (validate_data,)
