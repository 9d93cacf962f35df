"""The desk on the bus: what clients may ask, and what places announce."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from services.device_lab_scheduler.desk import Desk
from shared.bus.exchanges import Endpoint, answering, endpoint_table
from shared.lab.messages import (
    ANNOUNCEMENTS,
    DESK_ROOT,
    PLACE_ROOT,
    Announced,
    AskBoards,
    AskHistory,
    AskJobs,
    Cancel,
    Release,
    Renew,
    SetHealth,
    Submit,
)

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(desk: Desk, nc: Client) -> AsyncIterator[None]:
    """Answer at `DESK_ROOT`, and hear places, until the block is left."""
    endpoints = endpoint_table(
        Endpoint(Submit, desk.submit),
        Endpoint(Cancel, desk.cancel),
        Endpoint(Renew, desk.renew),
        Endpoint(Release, desk.release),
        Endpoint(SetHealth, desk.set_health),
        Endpoint(AskBoards, desk.boards),
        Endpoint(AskJobs, desk.jobs),
        Endpoint(AskHistory, desk.history),
    )
    said_before: dict[str, list[str]] = {}

    async def hear(message: Msg) -> None:
        try:
            said = Announced.model_validate_json(message.data)
        except ValidationError as error:
            log.warning("%s: no announcement: %s", message.subject, error.errors(include_url=False))
            return
        if message.subject != f"{PLACE_ROOT}.{said.place}.announced":
            log.warning("%s: place %r may not speak there", message.subject, said.place)
            return
        try:
            wrong = await desk.announced(said)
        except Exception:
            log.exception("could not note what place %s has; it says so again", said.place)
            return
        if wrong != said_before.get(said.place, []):
            for trouble in wrong:
                log.warning("place %s", trouble)
        said_before[said.place] = wrong

    heard = await nc.subscribe(ANNOUNCEMENTS, cb=hear)
    try:
        async with answering(nc, "lab-desk", DESK_ROOT, endpoints):
            yield
    finally:
        if not nc.is_closed:
            await heard.unsubscribe()
