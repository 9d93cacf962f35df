"""Reserving boards for a person: queued, granted, kept, given back."""

import asyncio
import getpass
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgeloop.errors import EdgeloopError, InfrastructureError, UsageError
from edgeloop.lab import tickets
from edgeloop.lab.asking import LabClient, LeaseGoneError
from edgeloop.lab.boards_view import requirement_of
from edgeloop.lab.keeping import keep
from shared.lab.messages import AskJobs, HeldBoard, JobState, JobView, Submit

MOST_BOARDS: Final = 64
GRANT_LOOK_EVERY_S: Final = 0.5
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_SECONDS: Final = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def me() -> str:
    """Return who asks, as others should see it beside the board."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def new_job_id(what: str) -> str:
    """Return an id that nobody else has."""
    return f"{what}-{secrets.token_hex(4)}"


def seconds_of(text: str, option: str) -> float:
    """Read a duration: ``90``, ``90s``, ``30m`` or ``1.5h``.

    Raises:
        UsageError: it is none, or none at all.
    """
    match = _DURATION.fullmatch(text.strip().casefold())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(
            f"{option} {text!r}: allowed is a number above 0 with s, m or h", next_step=f"write it like {option} 30m"
        )
    return seconds


def demands_of(needs: Sequence[str], boards: Sequence[str], count: int) -> tuple[str, ...]:
    """Return what is asked of each board: every need, `count` times; `boards` narrow each of them by catalogue name.

    Raises:
        UsageError: a need that nobody can read, or too many boards.
    """
    narrowed = f"board in {','.join(boards)}" if boards else ""
    texts = []
    for need in needs or ("any",):
        said = requirement_of(need)
        texts.append("; ".join(part for part in (narrowed, str(said) if said.predicates else "") if part) or "any")
        requirement_of(texts[-1], "--board" if narrowed else "--need")
    if len(texts) * count > MOST_BOARDS:
        raise UsageError(
            f"--count {count} of {len(texts)} needs is {len(texts) * count} boards; {MOST_BOARDS} are allowed at once",
            next_step="reserve fewer, or submit several jobs",
        )
    return tuple(texts) * count


async def granted(lab: LabClient, job: Submit, data: Path, bus: str) -> JobView:
    """Queue a reservation and wait until it is granted. Whoever stops waiting has it cancelled.

    Raises:
        InfrastructureError: it ended before it was granted.
    """
    try:
        view = await lab.submit(job)
        # What is granted is shown once the boards' places have let the token in.
        while view.state is not JobState.ENDED and len(view.held) < len(job.demands):
            await asyncio.sleep(GRANT_LOOK_EVERY_S)
            view = await lab.job(job.id)
    except asyncio.CancelledError:
        # Nobody would be there to renew what is granted later.
        with suppress(UsageError):  # it never came to the desk
            await lab.cancel(job.id, "its holder stopped waiting")
        raise
    tickets.remember(data, bus, [view])
    if view.state is JobState.ENDED:
        raise InfrastructureError(
            f"the reservation {view.id} ended before it was yours: {view.reason or view.verdict}",
            next_step="reserve again",
        )
    return view


async def hold(lab: LabClient, leases: Sequence[HeldBoard], told: Callable[[str], None]) -> int:
    """Renew leases until all are lost, and return how many of them were; on Ctrl-C give them back instead."""
    keeping = {asyncio.create_task(keep(lab, lease, time.monotonic)): lease for lease in leases}
    lost = 0
    try:
        while keeping:
            done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                keeping.pop(task)
                lost += 1
                told(f"lost: {task.result()}")
    except asyncio.CancelledError:
        for task in keeping:
            task.cancel()
        for lease in keeping.values():
            await lab.release(lease.board, lease.token)
            told(f"gave {lease.board} back")
    return lost


async def refreshed(lab: LabClient, data: Path, bus: str) -> tuple[JobView, ...]:
    """Ask how my reservations are, forget those that are over, and return the others."""
    found = []
    for ticket in tickets.load(data).of_bus(bus):
        known = (await lab.jobs(AskJobs(id=ticket.job, ended=True))).jobs
        if known:
            found.append(known[0])
        else:
            with tickets.changing(data) as draft:
                draft.tickets = draft.tickets.dropped(bus, ticket.job)
    tickets.remember(data, bus, found)
    return tuple(job for job in found if job.state is not JobState.ENDED)


async def renewed(lab: LabClient, leases: Sequence[tuple[str, int]]) -> tuple[tuple[HeldBoard, ...], tuple[str, ...]]:
    """Renew leases, by board and token; return those that are renewed, and why the others were not."""
    kept, lost = [], []
    for board, token in leases:
        try:
            kept.append(await lab.renew(board, token))
        except EdgeloopError as error:
            lost.append(error.message)
    return tuple(kept), tuple(lost)


async def given_back(lab: LabClient, name: str, token: int | None, data: Path, bus: str) -> tuple[str, ...]:
    """Give one of my boards back, or end a job with all its boards; return the boards that are free now.

    Raises:
        UsageError: I hold no such board, and there is no such job.
    """
    if token is not None:
        await lab.release(name, token)
        await refreshed(lab, data, bus)
        return (name,)
    if name in {board.name for board in await lab.boards()}:
        freed = [await held_board(lab, name, data, bus)]
    else:
        freed = [lease for job, lease in await mine(lab, data, bus) if job.id == name]
    if not freed:
        return await _ended(lab, name, data, bus)
    for lease in freed:
        await lab.release(lease.board, lease.token)
    await refreshed(lab, data, bus)
    return tuple(lease.board for lease in freed)


async def mine(lab: LabClient, data: Path, bus: str) -> tuple[tuple[JobView, HeldBoard], ...]:
    """Return the leases that I hold, each with its reservation."""
    return tuple((job, lease) for job in await refreshed(lab, data, bus) for lease in job.held)


async def held_board(lab: LabClient, board: str, data: Path, bus: str) -> HeldBoard:
    """Return my lease of a board.

    Raises:
        LeaseGoneError: I had one when I looked last, and it has ended.
        UsageError: I hold no such board.
    """
    before = tickets.load(data).of_bus(bus)
    leases = [lease for _, lease in await mine(lab, data, bus)]
    for lease in leases:
        if lease.board == board:
            return lease
    for ticket in before:
        if board in {held.board for held in ticket.held}:
            job = await lab.job(ticket.job)
            raise LeaseGoneError(
                f"{board}: it is yours no more; {job.id} {job.state}: {job.reason or job.verdict or 'given back'}",
                next_step="reserve it again: `edgeloop lab reserve`; a console or --hold renews it",
            )
    raise not_mine(board, [lease.board for lease in leases])


def not_mine(board: str, held: Sequence[str]) -> UsageError:
    """Return the error for a board that somebody else holds, or nobody."""
    return UsageError(
        f"{board}: you do not hold it; you hold: {', '.join(held) or 'none'}",
        next_step="`edgeloop lab boards` shows who does; reserve it with `edgeloop lab reserve`, or give its --token",
    )


async def _ended(lab: LabClient, job: str, data: Path, bus: str) -> tuple[str, ...]:
    view = await lab.job(job)
    await lab.cancel(view.id, f"released by {me()}")
    await refreshed(lab, data, bus)
    return tuple(lease.board for lease in view.held)
