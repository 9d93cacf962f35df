"""Run the service: ``python -m services.artifact_builder``."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.artifact_builder import store
from services.artifact_builder.caching.blobs import BlobCache
from services.artifact_builder.errors import InfrastructureError
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.handlers import ROUTES, Deps
from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.packaging.environment import current_environment
from services.artifact_builder.settings import Settings
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import remove_stale
from shared.runtime import Resources, Service, run


@asynccontextmanager
async def deps(settings: Settings, resources: Resources) -> AsyncIterator[Deps]:
    await asyncio.to_thread(remove_stale, settings.work)
    try:
        tools = settings.tools()
        toolbox = await asyncio.to_thread(Toolbox.of, tools)
    except (SignerError, InfrastructureError) as error:
        sys.stderr.write(f"artifact_builder: {error}\n")
        raise SystemExit(2) from error
    looking = asyncio.create_task(asyncio.to_thread(look_around, tools))  # while it waits for the first push
    try:
        cache = BlobCache.beside(resources.blobs, resources.store, settings.cache_bounds())
        yield Deps(resources.blobs, resources.store, tools, toolbox, settings.work, cache)
    finally:
        await looking


def look_around(tools: Tools) -> None:
    """Find now, once, what the first build would wait for: packages, our own sources, and which sandboxes work."""
    current_environment("")
    tools.sandbox.troubles()


if __name__ == "__main__":
    run(Service(name="artifact_builder", settings=Settings, deps=deps, routes=ROUTES, metadata=store.METADATA))
