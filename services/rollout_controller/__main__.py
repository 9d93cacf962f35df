"""Run the service: ``python -m services.rollout_controller``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.rollout_controller.handlers import ROUTES, Deps
from services.rollout_controller.settings import Settings
from services.rollout_controller.store import METADATA
from shared.runtime import Resources, Service, run


@asynccontextmanager
async def deps(_settings: Settings, resources: Resources) -> AsyncIterator[Deps]:
    yield Deps(resources.blobs)


if __name__ == "__main__":
    run(Service(name="rollout_controller", settings=Settings, deps=deps, routes=ROUTES, metadata=METADATA))
