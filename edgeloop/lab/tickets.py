"""What this user holds, kept below the data directory: nobody types a token.

A token is no secret, but whoever shows it speaks for its holder: the file is for its owner's eyes only.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeloop.errors import UsageError
from edgeloop.layout import Layout, write_private
from shared.lab.messages import HeldBoard, JobState, JobView


class Held(BaseModel):
    """One board in hand, and what opens it."""

    model_config = ConfigDict(frozen=True)

    board: str
    place: str
    token: int


class Ticket(BaseModel):
    """A reservation of this user, and the boards it was given so far."""

    model_config = ConfigDict(frozen=True)

    bus: str
    job: str
    held: tuple[Held, ...] = ()


class Tickets(BaseModel):
    """All reservations of this user that were not known to be over when somebody looked last."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tickets: tuple[Ticket, ...] = ()

    def of_bus(self, bus: str) -> tuple[Ticket, ...]:
        """Return those of one lab."""
        return tuple(ticket for ticket in self.tickets if ticket.bus == bus)

    def seen(self, bus: str, job: JobView) -> "Tickets":
        """Return the tickets after the desk said how this job is: one that ended is dropped."""
        others = tuple(ticket for ticket in self.tickets if (ticket.bus, ticket.job) != (bus, job.id))
        if job.state is JobState.ENDED:
            return Tickets(tickets=others)
        return Tickets(tickets=(*others, Ticket(bus=bus, job=job.id, held=tuple(map(held_of, job.held)))))

    def dropped(self, bus: str, job: str) -> "Tickets":
        """Return the tickets without that job."""
        return Tickets(tickets=tuple(each for each in self.tickets if (each.bus, each.job) != (bus, job)))


def held_of(lease: HeldBoard) -> Held:
    """Return what to keep of a lease."""
    return Held(board=lease.board, place=lease.place, token=lease.token)


def load(data: Path) -> Tickets:
    """Return what is kept in a data directory; nothing where nothing was.

    Raises:
        UsageError: the file holds something else.
    """
    file = Layout(data).lab_tickets
    try:
        return Tickets.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Tickets()
    except ValidationError as error:
        raise UsageError(
            f"{file}: not a list of reservations ({error.errors()[0]['msg']})",
            next_step="remove the file: `edgeloop lab jobs` still shows what you hold, with its tokens",
        ) from error


@contextmanager
def changing(data: Path) -> Iterator["Draft"]:
    """Lend the tickets for a change. Two commands at once wait for each other."""
    file = Layout(data).lab_tickets
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = load(data)
        draft = Draft(before)
        yield draft
        if draft.tickets != before:
            write_private(file, draft.tickets.model_dump_json(indent=2) + "\n")
    finally:
        os.close(descriptor)


class Draft:
    """Tickets while they are changed."""

    def __init__(self, tickets: Tickets) -> None:
        """Args: tickets: as they were."""
        self.tickets = tickets


def remember(data: Path, bus: str, jobs: Sequence[JobView]) -> Tickets:
    """Write down how these reservations are now, and return all."""
    with changing(data) as draft:
        for job in jobs:
            draft.tickets = draft.tickets.seen(bus, job)
    return draft.tickets
