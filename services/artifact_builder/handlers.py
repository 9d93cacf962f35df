"""Builds what was pushed, and builds again with production data when drift asks for it."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.artifact_builder import metrics, store
from services.artifact_builder.caching.blobs import BlobCache
from services.artifact_builder.domain import build_key
from services.artifact_builder.errors import BuildFailureError, InfrastructureError, NoRoomError
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.pipeline import BuildRequest, BuildResult, build, summaries
from services.artifact_builder.sandbox.engines import Engine
from services.artifact_builder.stages import Memory
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import workspace
from shared.bus import Reject, Retry, Unavailable
from shared.events import Event, Trigger
from shared.events.artifact import ArtifactBuilt, BuildFailed, BuildStage, StageTiming
from shared.events.drift import RetrainingRequested
from shared.events.source import SourcePushed
from shared.releases.release import Release
from shared.runtime.handlers import Emissions, Route, works_on
from shared.store import BlobMissingError, Blobs, Store, load_release

log = logging.getLogger(__name__)

RETRY_DELAY_S: Final = 15.0
WORK: Final = frozenset(BuildStage) - {BuildStage.CLONE, BuildStage.MANIFEST, BuildStage.STORE}
"""The stages that make something: when all of them were remembered, nothing was rebuilt."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers need."""

    blobs: Blobs
    store: Store
    tools: Tools
    toolbox: Toolbox
    work: Path
    cache: BlobCache
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A build uses all of the machine; two would only wait for each other, with twice the memory."""


@works_on(SourcePushed, emits=(ArtifactBuilt, BuildFailed), key=lambda pushed: pushed.project)
async def build_commit(event: Event[SourcePushed], deps: Deps) -> Emissions:
    """Build the head of the branch that was pushed."""
    pushed = event.data
    return await _build(BuildRequest(pushed.project, pushed.repository, pushed.commit), (), deps)


@works_on(RetrainingRequested, emits=(ArtifactBuilt, BuildFailed), key=lambda asked: asked.project)
async def build_with_production_data(event: Event[RetrainingRequested], deps: Deps) -> Emissions:
    """Build the release's commit again, with the production data beside its own."""
    asked = event.data
    try:
        release = await load_release(deps.blobs, asked.digest)
        production = [await deps.blobs.get(blob.digest) for blob in asked.production]
    except BlobMissingError as error:
        raise Reject(f"retraining of {asked.digest}: {error}") from error
    request = BuildRequest(asked.project, release.repository, release.commit, Trigger.DRIFT, production)
    return await _build(request, [blob.digest for blob in asked.production], deps)


async def _build(request: BuildRequest, production: Sequence[str], deps: Deps) -> Emissions:
    key = build_key(
        project=request.project,
        repository=request.repository,
        commit=request.commit,
        trigger=request.trigger,
        production=production,
        toolbox=deps.toolbox.digest,
    )
    async with deps.one_at_a_time:
        if found := await _remembered(key, deps):
            metrics.BUILDS.labels("remembered").inc()
            return [_built(request, *found, rebuilt=False)]
        await deps.cache.make_room()
        memory = Memory(deps.cache, deps.toolbox)
        try:
            with workspace(deps.work) as folder:
                result = await build(request, folder, deps.tools, memory)
            stored = await _store(result, deps.blobs)
        except BuildFailureError as error:
            metrics.BUILDS.labels("failed").inc()
            log.info("build failed", extra={"stage": error.stage, "reason": error.reason})
            return [_failed(request, error)]
        except InfrastructureError as error:
            metrics.BUILDS.labels("postponed").inc()
            if isinstance(error, NoRoomError):
                raise Unavailable(error.reason) from error
            raise Retry(error.reason, delay_s=RETRY_DELAY_S) from error
        async with deps.store.transaction() as tx:
            store.remember(tx, key, digest=result.digest, project=request.project, commit=request.commit)
    metrics.BUILDS.labels("built").inc()
    stages = (*result.stages, stored)
    for timing in stages:
        metrics.STAGE_SECONDS.labels(timing.stage).observe(timing.seconds)
    rebuilt = not all(timing.cached for timing in result.stages if timing.stage in WORK)
    sandbox = result.sandbox if rebuilt else None
    return [_built(request, result.release, result.digest, rebuilt=rebuilt, stages=stages, sandbox=sandbox)]


async def _remembered(key: str, deps: Deps) -> tuple[Release, str] | None:
    """Return the release of an equal build, if the object store still has it."""
    async with deps.store.transaction() as tx:
        digest = store.remembered(tx, key)
    if digest is None:
        return None
    try:
        return await load_release(deps.blobs, digest), digest
    except BlobMissingError:
        log.warning("a remembered release is not in the object store; it is built again", extra={"digest": digest})
        async with deps.store.transaction() as tx:
            store.forget(tx, key)
        return None


async def _store(result: BuildResult, blobs: Blobs) -> StageTiming:
    """Put everything into the object store, the manifest last: a release that can be found is complete."""
    begun = time.perf_counter()
    *named, manifest = result.artifacts
    await asyncio.gather(*(blobs.put(part.data, media_type=part.media_type, name=part.name) for part in named))
    await blobs.put(manifest.data, media_type=manifest.media_type, name=manifest.name)
    return StageTiming(stage=BuildStage.STORE, seconds=round(time.perf_counter() - begun, 3))


def _built(
    request: BuildRequest,
    release: Release,
    digest: str,
    *,
    rebuilt: bool,
    stages: tuple[StageTiming, ...] = (),
    sandbox: Engine | None = None,
) -> ArtifactBuilt:
    return ArtifactBuilt(
        project=request.project,
        digest=digest,
        commit=request.commit,
        trigger=request.trigger,
        firmware=summaries(release),
        rebuilt=rebuilt,
        stages=stages,
        sandbox=sandbox,
    )


def _failed(request: BuildRequest, error: BuildFailureError) -> BuildFailed:
    return BuildFailed(
        project=request.project,
        commit=request.commit,
        trigger=request.trigger,
        stage=error.stage,
        reason=error.reason,
        last_lines=error.last_lines,
        sandbox=error.sandbox,
    )


ROUTES: Final[tuple[Route, ...]] = (build_commit, build_with_production_data)
