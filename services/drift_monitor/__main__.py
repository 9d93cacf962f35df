"""Run the service: ``python -m services.drift_monitor``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.drift_monitor.adapters import Baselines
from services.drift_monitor.handlers import ROUTES, Deps
from services.drift_monitor.settings import Settings
from services.drift_monitor.store import METADATA
from shared.runtime import Resources, Service, run


@asynccontextmanager
async def deps(_settings: Settings, resources: Resources) -> AsyncIterator[Deps]:
    yield Deps(Baselines(resources.blobs))


if __name__ == "__main__":
    run(Service(name="drift_monitor", settings=Settings, deps=deps, routes=ROUTES, metadata=METADATA))
