"""Run the service: ``python -m services.data_validator``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.data_validator.handlers import ROUTES, Deps
from services.data_validator.settings import Settings
from shared.runtime import Resources, Service, run


@asynccontextmanager
async def deps(_settings: Settings, resources: Resources) -> AsyncIterator[Deps]:
    yield Deps(resources.blobs)


if __name__ == "__main__":
    run(Service(name="data_validator", settings=Settings, deps=deps, routes=ROUTES))
