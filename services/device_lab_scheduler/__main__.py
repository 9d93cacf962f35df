"""Run the service: ``python -m services.device_lab_scheduler``."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from services.device_lab_scheduler.desk import Desk
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.scheduling import Policy
from services.device_lab_scheduler.handlers import PROCEDURE, ROUTES, Deps
from services.device_lab_scheduler.links import BusLink
from services.device_lab_scheduler.results import Document
from services.device_lab_scheduler.serving import serving
from services.device_lab_scheduler.settings import Settings
from services.device_lab_scheduler.staging import DeskBoards
from services.device_lab_scheduler.stepping import Stepper
from services.device_lab_scheduler.store import METADATA
from shared.artifacts.signing_keys import SigningKeyError, signer_in
from shared.boards import image_boards
from shared.canaries import keep_canaries
from shared.interop.signed_results import signed_result, unsigned_result
from shared.lab.messages import Work
from shared.places.emulated import emulated_rigs
from shared.places.serving import serve_place
from shared.places.workers import Workers
from shared.runtime import Resources, Service, run


@dataclass(frozen=True)
class Running(Deps):
    """The handlers' dependencies, and what goes on beside them."""

    act: Callable[[], Awaitable[object]]
    host: Callable[[], Awaitable[object]]


@asynccontextmanager
async def deps(settings: Settings, resources: Resources) -> AsyncIterator[Running]:
    document = document_of(settings)
    link = BusLink(resources.nc)
    rules = rules_of(settings, await keep_canaries(resources.blobs))
    desk = Desk(resources.unit, link, rules, clock=time.time, document=document)
    stepper = Stepper(desk, every_s=settings.lab_step_s)
    workers = Workers(spares=2)
    counts = [(board, settings.lab_boards) for board in image_boards()]
    rigs = emulated_rigs(settings.lab_place, counts, settings.lab_emulator, workers)
    procedure = f"{PROCEDURE}/{settings.lab_emulator}"
    boards = DeskBoards(desk, resources.blobs, procedure=procedure, deadline_s=settings.lab_board_deadline_s)
    try:
        async with serving(desk, resources.nc):
            yield Running(
                blobs=resources.blobs,
                store=resources.store,
                boards=boards,
                emulator=settings.lab_emulator,
                document=document,
                act=stepper.run,
                host=partial(serve_place, resources.nc, settings.lab_place, rigs, resources.blobs.get)
                if rigs
                else asyncio.Event().wait,
            )
    finally:
        await stepper.close()
        workers.close()


async def act(running: Running) -> None:
    """Let the desk act."""
    await running.act()


async def host(running: Running) -> None:
    """Lend the emulated boards of this machine to the lab."""
    await running.host()


def document_of(settings: Settings) -> Document:
    """Return what makes a result's document: signed where there is a key.

    Raises:
        SigningKeyError: the key cannot be used.
    """
    if settings.lab_signing_key is None:
        return unsigned_result
    signer = signer_in(settings.lab_signing_key)
    return partial(signed_result, key_id=signer.public_key.key_id, sign=signer.sign)


def rules_of(settings: Settings, canaries: Mapping[str, Work]) -> Rules:
    """Return the desk's policies, with the canary of each kind of board that has one."""
    policy = Policy(
        ttl_s=settings.lab_lease_s,
        longest_s=settings.lab_longest_s,
        place_ttl_s=settings.lab_place_ttl_s,
        weights=settings.lab_weights,
    )
    return Rules(policy, canaries=canaries)


SERVICE = Service(
    name="device_lab_scheduler",
    settings=Settings,
    deps=deps,
    routes=ROUTES,
    metadata=METADATA,
    background=(act, host),
)

if __name__ == "__main__":
    try:
        run(SERVICE)
    except SigningKeyError as error:
        sys.stderr.write(f"device_lab_scheduler: EDGELOOP_LAB_SIGNING_KEY: {error}\n")
        sys.exit(2)
