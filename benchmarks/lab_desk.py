"""Steps of the lab's desk over a SQLite file, with everything that they read and write: used by `benchmarks/lab.py`."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.device_lab_scheduler.desk import Desk
from services.device_lab_scheduler.domain.records import JobRecord
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.stepping import Stepper
from services.device_lab_scheduler.store import METADATA
from shared.interop.signed_results import unsigned_result
from shared.lab import Job, LabBoard
from shared.lab.messages import Announced, AskProgress, Begin, Grant, OfferedBoard, Progress, Shut, WorkState
from shared.runtime.service import Unit
from shared.store import Store

_QUIET_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Steps:
    """How long steps took, places not counted.

    Attributes:
        first_ms: A pass over everything that waits, and its grants written.
        quiet_ms: One in which nothing is to be done; the median.
        restart_ms: A new desk's first: all books read.
    """

    first_ms: float
    quiet_ms: float
    restart_ms: float
    placed: int


class _Agreeable:
    """Places that say yes at once, and work for ever: only the desk is measured."""

    async def grant(self, place: str, asked: Grant) -> None:
        """Yes."""

    async def begin(self, place: str, asked: Begin) -> None:
        """Yes."""

    async def shut(self, place: str, asked: Shut) -> None:
        """Yes."""

    async def progress(self, _place: str, _asked: AskProgress) -> Progress:
        return Progress(state=WorkState.RUNNING)


def measure_steps(boards: Sequence[LabBoard], jobs: Sequence[Job]) -> Steps:
    """Return what steps of a desk take that has these boards, all free, and these jobs, all waiting."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'lab.db'}", METADATA)
        try:
            return asyncio.run(_measure(store, boards, jobs))
        finally:
            store.close()


async def _measure(store: Store, boards: Sequence[LabBoard], jobs: Sequence[Job]) -> Steps:
    desk = _desk(store)
    await _announce(desk, boards)
    async with desk.books() as books:
        for job in jobs:
            books.ledger.put_job(JobRecord(job))
    stepper = Stepper(desk, patience_s=0)
    first_ms = await _timed(stepper)
    stepper.patience_s = 10
    for _ in range(3):  # until places have heard everything
        await stepper.step()
    quiet = sorted([await _timed(stepper) for _ in range(_QUIET_STEPS)])
    async with desk.books() as books:
        placed = len(books.ledger.running)
    await stepper.close()
    again = Stepper(_desk(store), patience_s=0)
    restart_ms = await _timed(again)
    await again.close()
    return Steps(first_ms, quiet[_QUIET_STEPS // 2], restart_ms, placed)


def _desk(store: Store) -> Desk:
    return Desk(_unit_of(store), _Agreeable(), Rules(), clock=time.time, document=unsigned_result)


def _unit_of(store: Store) -> Callable[[], AbstractAsyncContextManager[Unit]]:
    @asynccontextmanager
    async def open_unit() -> AsyncIterator[Unit]:
        async with store.transaction() as tx:
            yield Unit(tx, lambda _emissions, _cause, _run: None)

    return open_unit


async def _announce(desk: Desk, boards: Sequence[LabBoard]) -> None:
    places: dict[str, list[OfferedBoard]] = {}
    for board in boards:
        traits = board.traits
        offered = OfferedBoard(name=board.name, board=traits.board, board_class=traits.board_class)
        places.setdefault(traits.place, []).append(offered)
    for place, offers in places.items():
        await desk.announced(Announced(place=place, epoch="1", boards=tuple(offers)))


async def _timed(stepper: Stepper) -> float:
    """Return the milliseconds of one step."""
    began_s = time.perf_counter()
    await stepper.step()
    return (time.perf_counter() - began_s) * 1000
