"""Reacts to a built release: reads its datasets and says whether they can be trusted."""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.data_validator.assessment import assess
from services.data_validator.metrics import count
from shared.events import Event
from shared.events.artifact import ArtifactBuilt
from shared.events.validation import DataRejected, DataValidated
from shared.releases.gates import passes
from shared.runtime.handlers import Emissions, Route, works_on
from shared.store import Blobs, load_release


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers need."""

    blobs: Blobs


@works_on(ArtifactBuilt, emits=(DataValidated, DataRejected))
async def validate_data(event: Event[ArtifactBuilt], deps: Deps) -> Emissions:
    """Judge all datasets of the release."""
    built = event.data
    release = await load_release(deps.blobs, built.digest)
    files = {name: await deps.blobs.get(blob.digest) for name, blob in release.datasets.named().items()}
    checks = await asyncio.to_thread(assess, release, files)
    count(checks)
    verdict = DataValidated if passes(checks) else DataRejected
    return [verdict(project=built.project, digest=built.digest, checks=checks)]


ROUTES: Final[tuple[Route, ...]] = (validate_data,)
