"""Keeping leases: renewed in time, until one is lost or its holder has had enough."""

import asyncio
from collections.abc import Callable
from typing import Final

from edgeloop.errors import InfrastructureError, UsageError
from edgeloop.lab.asking import LabClient, LeaseGoneError
from shared.lab.messages import HeldBoard

SHORTEST_S: Final = 0.2
LONGEST_S: Final = 20.0
_ASK_AGAIN_S: Final = 1.0


def pause_s(left_s: float) -> float:
    """Return how long to wait before the next renewal: a third of what is left, so that two may fail."""
    return min(LONGEST_S, max(SHORTEST_S, left_s / 3))


async def keep(lab: LabClient, lease: HeldBoard, clock: Callable[[], float]) -> str:
    """Renew a lease until it is lost, and return why.

    A desk that does not answer, or cannot reach the board's place, is asked again until the lease's own time is over:
    it may be starting anew.
    """
    until_s = clock() + lease.left_s
    wait_s = pause_s(lease.left_s)
    while True:
        await asyncio.sleep(wait_s)
        try:
            lease = await lab.renew(lease.board, lease.token)
        except (LeaseGoneError, UsageError) as error:
            return error.message
        except InfrastructureError as error:
            if clock() >= until_s:
                return f"{lease.board}: its time is over, and there was no more to be had: {error.message}"
            wait_s = min(_ASK_AGAIN_S, pause_s(until_s - clock()))
        else:
            until_s = clock() + lease.left_s
            wait_s = pause_s(lease.left_s)
