"""A place's agent on the bus: it answers as a micro service, says that it lives, and passes on what boards say."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NoReturn

import nats.errors
from nats.aio.client import Client

from shared.bus.exchanges import Endpoint, answering, endpoint_table
from shared.lab.messages import PLACE_ROOT, AskProgress, Begin, ConsoleOutput, Grant, Shut, Touch
from shared.places.agent import PlaceAgent
from shared.places.rig import Rig

log = logging.getLogger(__name__)

ANNOUNCE_S: Final = 2.0
"""Between two announcements. A place counts as gone after several of them did not come."""
_CHUNK_BYTES: Final = 64 * 1024
"""Of what a board said, in one message; the bus carries a megabyte."""


async def serve_place(
    nc: Client,
    place: str,
    rigs: Iterable[Rig],
    fetch: Callable[[str], Awaitable[bytes]],
    *,
    announce_s: float = ANNOUNCE_S,
) -> NoReturn:
    """Answer for the boards of a place until cancelled, then let go of every one of them.

    Args:
        nc: connection to the bus.
        place: its name: `PLACE_ROOT`.<place> is where it is asked.
        rigs: its boards.
        fetch: bytes by digest, from the object store.
        announce_s: between two announcements.
    """
    # Without bound: what a board says in the time that the bus is away is a few megabytes at most.
    said: asyncio.Queue[ConsoleOutput] = asyncio.Queue()
    agent = PlaceAgent(place, rigs, fetch, publish=said.put_nowait)
    root = f"{PLACE_ROOT}.{place}"
    endpoints = endpoint_table(
        Endpoint(Grant, agent.grant),
        Endpoint(Shut, agent.shut),
        Endpoint(Begin, agent.begin),
        Endpoint(AskProgress, agent.progress),
        Endpoint(Touch, agent.touch),
    )
    try:
        async with answering(nc, f"lab-place-{place}", root, endpoints), asyncio.TaskGroup() as tasks:
            tasks.create_task(agent.keep_deadlines())
            tasks.create_task(_look_around(agent, announce_s))
            tasks.create_task(_announce(nc, f"{root}.announced", agent, announce_s))
            tasks.create_task(_pass_on(nc, root, said))
    finally:
        await agent.close()
    raise AssertionError("its tasks never end by themselves")


async def _look_around(agent: PlaceAgent, every_s: float) -> None:
    while True:
        await agent.look_around()
        await asyncio.sleep(every_s)


async def _announce(nc: Client, subject: str, agent: PlaceAgent, every_s: float) -> None:
    while True:
        announced = await agent.announced()
        await _publish(nc, subject, announced.model_dump_json().encode())
        await asyncio.sleep(every_s)


async def _pass_on(nc: Client, root: str, said: "asyncio.Queue[ConsoleOutput]") -> None:
    while True:
        output = await said.get()
        for at in range(0, len(output.data), _CHUNK_BYTES):
            part = output.model_copy(update={"offset": output.offset + at, "data": output.data[at : at + _CHUNK_BYTES]})
            await _publish(nc, f"{root}.console.{output.board}", part.model_dump_json().encode())


async def _publish(nc: Client, subject: str, data: bytes) -> None:
    try:
        await nc.publish(subject, data)
    except (nats.errors.Error, OSError) as error:
        # The next announcement says it again, and a gap in a console's offsets shows as one.
        log.warning("could not say %s: %s", subject, error)
