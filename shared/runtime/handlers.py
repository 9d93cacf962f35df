"""How a service says what it reacts to: one decorated function per event, gathered in a routing table.

Three kinds, and the difference is where the SQL transaction is:

* ``@handles`` runs inside one transaction with the inbox row and the outbox rows: for decisions and state machines.
* ``@works_on`` runs outside any transaction, for seconds or hours, while its message is kept alive. Its effects must
  be idempotent (put by digest); its payloads are committed together with the inbox row when it returns.
* ``@every`` runs inside one transaction whenever its period has passed, for deadlines.

All return the payloads to publish. None publishes, acknowledges, deduplicates or retries by itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from shared.events import Event, Payload
from shared.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class InRun:
    """A payload that belongs to another pipeline run than the event that caused it, or begins one."""

    payload: Payload
    run_id: UUID


Emission: TypeAlias = Payload | InRun
Emissions: TypeAlias = Sequence[Emission]

P = TypeVar("P", bound=Payload)
D = TypeVar("D")

Transaction: TypeAlias = Connection
"""An open transaction: SQLAlchemy Core statements run on it; the runner commits or rolls back."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A short reaction to an event type, or to telemetry (`consumes` is `Telemetry`), inside a transaction."""

    consumes: type[Payload] | type[Telemetry]
    emits: tuple[type[Payload], ...]
    call: Callable[..., Awaitable[Emissions]]
    max_attempts: int = 8


@dataclass(frozen=True, slots=True)
class Worker:
    """A long reaction to an event type, outside any transaction."""

    consumes: type[Payload]
    emits: tuple[type[Payload], ...]
    call: Callable[..., Awaitable[Emissions]]
    concurrency: int
    key: Callable[[Any], str] | None
    """Events whose payloads give the same key are worked on one after the other, in order."""
    max_attempts: int = 5


@dataclass(frozen=True, slots=True)
class Timer:
    """A reaction to time passing, inside a transaction."""

    period_s: float
    emits: tuple[type[Payload], ...]
    call: Callable[..., Awaitable[Emissions]]


Route: TypeAlias = Handler | Worker | Timer


def handles(
    consumes: type[P], *, emits: tuple[type[Payload], ...] = (), max_attempts: int = 8
) -> Callable[[Callable[[Event[P], D, Transaction], Awaitable[Emissions]]], Handler]:
    """Make ``async def f(event, deps, tx)`` the reaction to `consumes`."""
    return lambda call: Handler(consumes, emits, call, max_attempts)


def handles_telemetry(
    *, emits: tuple[type[Payload], ...] = (), max_attempts: int = 8
) -> Callable[[Callable[[Telemetry, D, Transaction], Awaitable[Emissions]]], Handler]:
    """Make ``async def f(telemetry, deps, tx)`` the reaction to batches from gateways."""
    return lambda call: Handler(Telemetry, emits, call, max_attempts)


def works_on(
    consumes: type[P],
    *,
    emits: tuple[type[Payload], ...] = (),
    concurrency: int = 1,
    key: Callable[[P], str] | None = None,
    max_attempts: int = 5,
) -> Callable[[Callable[[Event[P], D], Awaitable[Emissions]]], Worker]:
    """Make ``async def f(event, deps)`` the long reaction to `consumes`."""
    return lambda call: Worker(consumes, emits, call, concurrency, key, max_attempts)


def every(
    period_s: float, *, emits: tuple[type[Payload], ...] = ()
) -> Callable[[Callable[[datetime, D, Transaction], Awaitable[Emissions]]], Timer]:
    """Make ``async def f(now, deps, tx)`` run whenever `period_s` seconds have passed."""
    return lambda call: Timer(period_s, emits, call)
