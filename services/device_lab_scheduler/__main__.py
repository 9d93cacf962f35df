"""Run the service: ``python -m services.device_lab_scheduler``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.device_lab_scheduler.bench import Bench
from services.device_lab_scheduler.handlers import ROUTES, Deps
from services.device_lab_scheduler.settings import Settings
from services.device_lab_scheduler.store import METADATA
from shared.runtime import Resources, Service, run


@asynccontextmanager
async def deps(settings: Settings, resources: Resources) -> AsyncIterator[Deps]:
    bench = Bench(settings.lab_emulator, workers=settings.lab_workers, board_deadline_s=settings.lab_board_deadline_s)
    try:
        yield Deps(resources.blobs, resources.store, bench, settings.lab_emulator)
    finally:
        bench.close()


if __name__ == "__main__":
    run(Service(name="device_lab_scheduler", settings=Settings, deps=deps, routes=ROUTES, metadata=METADATA))
