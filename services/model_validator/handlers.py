"""Reacts to a built release: runs both models on the test set and says whether they reach the project's gates."""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.model_validator.assessment import assess
from services.model_validator.metrics import count
from shared.bus.outcomes import Retry
from shared.events import Event
from shared.events.artifact import ArtifactBuilt
from shared.events.validation import ModelRejected, ModelValidated
from shared.inference import ReferenceUnavailableError
from shared.releases.gates import passes
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
        checks = await asyncio.to_thread(assess, release, test, int8, float32)
    except ReferenceUnavailableError as error:
        raise Retry(str(error), delay_s=_RUNTIME_MISSING_DELAY_S) from error
    count(checks)
    verdict = ModelValidated if passes(checks) else ModelRejected
    return [verdict(project=built.project, digest=built.digest, checks=checks)]


ROUTES: Final[tuple[Route, ...]] = (validate_model,)
