"""A lab with the wire of the real one and nothing behind it: a desk that grants at once, and a board that echoes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from nats.aio.client import Client

from shared.boards import catalogue
from shared.bus.exchanges import Endpoint, RefusedError, answering, endpoint_table
from shared.events.lab import BoardClass
from shared.lab import Health, VerdictKind, parse_requirement
from shared.lab.board import traits_of
from shared.lab.messages import (
    DESK_ROOT,
    PLACE_ROOT,
    AskBoards,
    AskHistory,
    AskJobs,
    Boards,
    BoardView,
    Cancel,
    ConsoleOutput,
    Done,
    HealthAction,
    HeldBoard,
    History,
    Jobs,
    JobState,
    JobView,
    RefusalKind,
    Release,
    Renew,
    SetHealth,
    Submit,
    Touch,
)

PLACE = "bench"
_ACTIONS = {
    HealthAction.TAKE_OUT: Health.MAINTENANCE,
    HealthAction.BRING_BACK: Health.PROBATION,
    HealthAction.RETIRE: Health.RETIRED,
}


def board_view(name: str, **changes: Any) -> BoardView:
    parts = {
        "name": name,
        "board": "cortex-m4",
        "place": PLACE,
        "board_class": BoardClass.EMULATED,
        "identity": "",
        "health": Health.GOOD,
        "live": True,
        "canary_due": False,
        "jobs_since_canary": 0,
    }
    return BoardView(**(parts | changes))


class SmallLab:
    """Time stands still here: a lease ends when a test says so."""

    def __init__(self, nc: Client, *boards: BoardView) -> None:
        self.nc = nc
        self.views = {board.name: board for board in boards}
        self.orders: dict[str, JobView] = {}
        self.submitted: list[Submit] = []
        self.tokens: dict[str, int] = {}
        self.history: tuple[str, ...] = ()
        self.touched: list[Touch] = []
        self.said: dict[str, int] = {}
        self.renewals = 0
        self.ttl_s = 60.0
        self.refused_renewals = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["SmallLab"]:
        desk = endpoint_table(
            Endpoint(AskBoards, self._boards),
            Endpoint(AskJobs, self._jobs),
            Endpoint(Submit, self._submit),
            Endpoint(Renew, self._renew),
            Endpoint(Release, self._release),
            Endpoint(Cancel, self._cancel),
            Endpoint(SetHealth, self._health),
            Endpoint(AskHistory, self._history),
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(answering(self.nc, "desk", DESK_ROOT, desk))
            place = endpoint_table(Endpoint(Touch, self._touch))
            await stack.enter_async_context(answering(self.nc, "place", f"{PLACE_ROOT}.{PLACE}", place))
            yield self

    def end(self, job: str, verdict: VerdictKind, reason: str = "") -> None:
        self.orders[job] = self.orders[job].model_copy(
            update={"state": JobState.ENDED, "held": (), "verdict": verdict, "reason": reason}
        )

    async def say(self, board: str, data: bytes, *, skip: int = 0, token: int | None = None) -> None:
        """Say something on a console; `skip` bytes before it are lost."""
        offset = self.said.get(board, 0) + skip
        self.said[board] = offset + len(data)
        said = ConsoleOutput(board=board, token=token or self.tokens[board], offset=offset, data=data)
        await self.nc.publish(f"{PLACE_ROOT}.{PLACE}.console.{board}", said.model_dump_json().encode())

    def take_away(self, board: str) -> None:
        """Give a board to somebody else."""
        self.tokens[board] += 1

    async def _boards(self, _asked: AskBoards) -> Boards:
        return Boards(boards=tuple(self.views.values()))

    async def _jobs(self, asked: AskJobs) -> Jobs:
        found = tuple(
            job
            for job in reversed(self.orders.values())
            if (asked.id in (None, job.id))
            and (asked.project in (None, job.project))
            and (asked.ended or job.state is not JobState.ENDED)
        )
        waiting = sum(job.state is JobState.WAITING for job in self.orders.values())
        return Jobs(jobs=found[: asked.limit], waiting=waiting)

    async def _submit(self, asked: Submit) -> JobView:
        if asked.id not in self.orders:
            self.submitted.append(asked)
            taken = [lease.board for job in self.orders.values() for lease in job.held]
            held = []
            for demand in map(parse_requirement, asked.demands):
                for view in self.views.values():
                    traits = traits_of(catalogue()[view.board], view.place, view.board_class)
                    if view.name not in taken and demand.holds(traits):
                        taken.append(view.name)
                        self.tokens[view.name] = self.tokens.get(view.name, 0) + 1
                        held.append(self._lease(view.name))
                        break
            granted = len(held) == len(asked.demands)
            self.orders[asked.id] = JobView(
                id=asked.id,
                project=asked.project,
                kind=asked.kind,
                state=JobState.RUNNING if granted else JobState.WAITING,
                demands=asked.demands,
                priority=asked.priority,
                age_s=0,
                holder=asked.holder,
                held=tuple(held) if granted else (),
                waits_for="" if granted else "a free board",
                bound_s=None if granted else 1800.0,
            )
        return self.orders[asked.id]

    async def _renew(self, asked: Renew) -> HeldBoard:
        self._require(asked.board, asked.token)
        if self.refused_renewals:
            self.refused_renewals -= 1
            raise RefusedError(RefusalKind.LAB, f"{PLACE} does not answer. Next: renew again")
        self.renewals += 1
        return self._lease(asked.board)

    async def _release(self, asked: Release) -> Done:
        self._require(asked.board, asked.token)
        self.tokens[asked.board] += 1
        for job in self.orders.values():
            left = tuple(lease for lease in job.held if lease.board != asked.board)
            if left != job.held:
                self.orders[job.id] = job.model_copy(update={"held": left})
                if not left:
                    self.end(job.id, VerdictKind.PASSED)
        return Done()

    async def _cancel(self, asked: Cancel) -> Done:
        self.end(asked.id, VerdictKind.INFRASTRUCTURE, asked.reason)
        return Done()

    async def _health(self, asked: SetHealth) -> BoardView:
        if asked.board not in self.views:
            raise RefusedError(RefusalKind.UNKNOWN, f"no board {asked.board!r}. Next: look at the boards there are")
        changes = {"health": _ACTIONS[asked.action], "reason": asked.reason}
        self.views[asked.board] = self.views[asked.board].model_copy(update=changes)
        return self.views[asked.board]

    async def _history(self, _asked: AskHistory) -> History:
        return History(results=self.history)

    async def _touch(self, asked: Touch) -> Done:
        self._require(asked.board, asked.token)
        self.touched.append(asked)
        if asked.write:
            await self.say(asked.board, asked.write.upper())
        return Done()

    def _lease(self, board: str) -> HeldBoard:
        return HeldBoard(
            board=board, place=PLACE, token=self.tokens[board], left_s=self.ttl_s, cap_left_s=10 * self.ttl_s
        )

    def _require(self, board: str, token: int) -> None:
        known = self.tokens.get(board)
        if token != known:
            raise RefusedError(
                RefusalKind.STALE_TOKEN, f"{board}: token {token} holds no lease; token {known} does. Next: ask anew"
            )
