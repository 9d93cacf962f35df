"""Asking the lab's desk and its places. A refusal becomes an error that says whose move is next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

from nats.aio.client import Client

from edgeloop.errors import EdgeloopError, InfrastructureError, UsageError
from edgeloop.events import connected
from shared.bus.exchanges import NobodyAnsweredError, RefusedError, ask
from shared.lab.messages import (
    DESK_ROOT,
    PLACE_ROOT,
    AskBoards,
    AskHistory,
    AskJobs,
    Boards,
    BoardView,
    Cancel,
    Done,
    HealthAction,
    HeldBoard,
    History,
    Jobs,
    JobView,
    Message,
    RefusalKind,
    Release,
    Renew,
    Request,
    SetHealth,
    Submit,
    Touch,
)

A = TypeVar("A", bound=Message)

SUBMIT_TRIES: Final = 3
SUBMIT_AGAIN_S: Final = 1.0

_USERS_OWN: Final = frozenset({RefusalKind.BAD_REQUEST, RefusalKind.UNKNOWN, RefusalKind.CONFLICT, "413"})
_SILENT: Final = "see that device_lab_scheduler runs: `edgeloop doctor`; `edgeloop up` starts it"
_SILENT_PLACE: Final = "see with `edgeloop lab boards` whether the place is live, and that its gateway runs"


class SilentError(InfrastructureError):
    """Nobody answered: whether the other side acted is unknown."""


class LeaseGoneError(InfrastructureError):
    """The token holds the board no longer."""


class LabClient:
    """The lab's desk, and the places of boards, over one connection."""

    def __init__(self, nc: Client) -> None:
        """Args: nc: the bus."""
        self.nc: Final = nc

    async def boards(self) -> tuple[BoardView, ...]:
        """Return every board."""
        return (await self._ask(AskBoards(), Boards)).boards

    async def jobs(self, question: AskJobs) -> Jobs:
        """Return the jobs that were asked for."""
        return await self._ask(question, Jobs)

    async def job(self, name: str) -> JobView:
        """Return one job.

        Raises:
            UsageError: the desk does not know it.
        """
        found = (await self.jobs(AskJobs(id=name, ended=True))).jobs
        if not found:
            raise UsageError(f"the lab knows no job {name}", next_step="`edgeloop lab jobs --all` shows those it knows")
        return found[0]

    async def submit(self, job: Submit) -> JobView:
        """Queue a job. A desk that is silent is asked again: the same id is the same job."""
        for _ in range(SUBMIT_TRIES - 1):
            with suppress(SilentError):
                return await self._ask(job, JobView)
            await asyncio.sleep(SUBMIT_AGAIN_S)
        return await self._ask(job, JobView)

    async def renew(self, board: str, token: int) -> HeldBoard:
        """Renew a lease. Raises LeaseGoneError when the token holds it no longer."""
        return await self._ask(Renew(board=board, token=token), HeldBoard)

    async def release(self, board: str, token: int) -> None:
        """Give a board back. Raises as `renew`."""
        await self._ask(Release(board=board, token=token), Done)

    async def cancel(self, job: str, reason: str) -> None:
        """End a job, wherever it is."""
        await self._ask(Cancel(id=job, reason=reason), Done)

    async def set_health(self, board: str, action: HealthAction, reason: str) -> BoardView:
        """Take a board out, bring it back or retire it."""
        return await self._ask(SetHealth(board=board, action=action, reason=reason), BoardView)

    async def history(self, question: AskHistory) -> tuple[str, ...]:
        """Return signed results, newest first."""
        return (await self._ask(question, History)).results

    async def touch(self, place: str, touch: Touch, *, timeout_s: float = 5.0) -> None:
        """Lay hands on a board. After SilentError it is unknown whether the board was touched: do not repeat.

        Raises:
            LeaseGoneError: the token is not the board's newest, or its time is over.
        """
        await _asked(self.nc, f"{PLACE_ROOT}.{place}", touch, Done, next_step=_SILENT_PLACE, timeout_s=timeout_s)

    async def _ask(self, question: Request, answer: type[A]) -> A:
        return await _asked(self.nc, DESK_ROOT, question, answer, next_step=_SILENT)


@asynccontextmanager
async def lab_at(url: str) -> AsyncIterator[LabClient]:
    """Connect to the lab on a bus for the length of a command.

    Raises:
        shared.bus.BusUnreachableError: nobody answers there.
    """
    async with connected(url) as nc:
        yield LabClient(nc)


async def _asked(
    nc: Client, root: str, question: Request, answer: type[A], *, next_step: str, timeout_s: float = 5.0
) -> A:
    try:
        return await ask(nc, root, question, answer, timeout_s=timeout_s)
    except NobodyAnsweredError as error:
        raise SilentError(str(error), next_step=next_step) from error
    except RefusedError as error:
        raise refusal(error.code, str(error)) from error


def refusal(code: str, reason: str) -> EdgeloopError:
    """Return what a refusal is to the user: their own mistake, a lost lease, or trouble in the lab."""
    message, _, next_step = reason.partition(" Next: ")
    if code in _USERS_OWN:
        return UsageError(message, next_step=next_step)
    if code == RefusalKind.STALE_TOKEN:
        return LeaseGoneError(message, next_step=next_step or "reserve the board again: `edgeloop lab reserve`")
    return InfrastructureError(message, next_step=next_step or "look at the log of the service that said so")
