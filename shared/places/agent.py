"""The agent of a place: who may touch which board, for how long, and what came of the work that was done there.

A newer token ends what an older one does before it is let in, and so does the end of a lease. Times are the agent's
own, from when it heard: no clock of another machine counts.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from shared.bus.exchanges import RefusedError
from shared.lab.lease import Fence, StaleTokenError
from shared.lab.messages import (
    Announced,
    AskProgress,
    Begin,
    ConsoleOutput,
    Done,
    Grant,
    Progress,
    RefusalKind,
    Shut,
    Touch,
    Work,
    WorkState,
)
from shared.lab.verdict import AttemptOutcome
from shared.places.rig import Hear, NotAbleError, Order, Rig, RigError

log = logging.getLogger(__name__)

_NOTHING: Final = Progress(state=WorkState.NONE)
_AGAIN_S: Final = 0.5
"""After a board could not be let go of: the next try."""


@dataclass(slots=True)
class _Hold:
    """One token's time at a board."""

    token: int
    work: Work | None = None
    work_until_s: float = math.inf
    progress: Progress = _NOTHING
    said_bytes: int = 0
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    quiet: bool = True
    """Nothing has been begun since the board was last let go of."""

    @property
    def working(self) -> bool:
        return self.work is not None and self.progress.state is not WorkState.ENDED


@dataclass(slots=True)
class _Bench:
    """A board and its holder. Whoever changes the holder, or begins something for them, takes the turn."""

    rig: Rig
    hold: _Hold = field(default_factory=lambda: _Hold(0))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    looking: "asyncio.Task[None] | None" = None


class PlaceAgent:
    """The boards of one place. Every request may be repeated; `RefusedError` says no.

    Its fence and its work do not outlive it: `epoch` tells that it was started anew.
    """

    def __init__(
        self,
        place: str,
        rigs: Iterable[Rig],
        fetch: Callable[[str], Awaitable[bytes]],
        *,
        clock: Callable[[], float] = time.monotonic,
        publish: Callable[[ConsoleOutput], None] = lambda _output: None,
    ) -> None:
        """Args: fetch: bytes by digest, from the object store; publish: takes what held boards say."""
        self.place: Final = place
        self.epoch: Final = uuid4().hex
        self._benches = {rig.offered.name: _Bench(rig) for rig in rigs}
        self._fetch, self._clock, self._publish = fetch, clock, publish
        self._fence = Fence()
        self._changed = asyncio.Event()

    # ---- what is asked of it ---------------------------------------------------------------------------------------

    async def grant(self, asked: Grant) -> Done:
        """Let a token in for so long, or for longer. What an older one does is ended before this returns."""
        bench = self._bench(asked.board)
        # Before anything is waited for: from here on the former holder is shut out.
        self._fence = self._fence.grant(asked.board, asked.token, self._clock() + asked.ttl_s)
        self._changed.set()
        self._admit(asked.board, asked.token)
        if bench.looking is not None:
            bench.looking.cancel()
        async with bench.turn:
            if bench.hold.token < asked.token:
                await self._end(bench, AttemptOutcome.LEASE_LOST, f"token {asked.token} was granted")
                bench.hold = _Hold(asked.token)
            # A newer token, or the end of this one, may have come while the former holder was ended.
            self._admit(asked.board, asked.token)
        return Done()

    async def shut(self, asked: Shut) -> Done:
        """End what a token does, and let it in no more, even where it was never let in."""
        bench = self._bench(asked.board)
        self._fence = self._fence.shut(asked.board, asked.token)
        async with bench.turn:
            if bench.hold.token <= asked.token:
                await self._end(bench, AttemptOutcome.LEASE_LOST, "its lease was given back")
        return Done()

    async def begin(self, asked: Begin) -> Done:
        """Start the work of a token, once."""
        bench = self._bench(asked.board)
        async with bench.turn:
            hold = self._hold_of(bench, asked.board, asked.token)
            if hold.work == asked.work:
                return Done()
            if hold.work is not None or hold.tasks:
                doing = f"already {'does' if hold.working else 'did'} other work" if hold.work else "is at the console"
                raise _refused(
                    RefusalKind.CONFLICT, f"{asked.board}: token {asked.token} {doing}. Next: ask for a new lease"
                )
            if not hold.quiet:
                await self._end(bench, AttemptOutcome.LEASE_LOST, "")  # a console that was left open
            hold.work, hold.work_until_s = asked.work, self._clock() + asked.work.deadline_s
            # Until the rig says otherwise: whoever flashes is not to be made to leave.
            hold.progress = Progress(state=WorkState.FLASHING)
            self._start(hold, self._work(bench, hold, asked.work))
        return Done()

    async def progress(self, asked: AskProgress) -> Progress:
        """Say how far a token's work is. It is known until another token is let in."""
        bench = self._bench(asked.board)
        if bench.hold.token == asked.token:
            return bench.hold.progress
        self._admit(asked.board, asked.token)
        return _NOTHING

    async def touch(self, asked: Touch) -> Done:
        """Do what a holder's own hands do."""
        bench = self._bench(asked.board)
        async with bench.turn:
            hold = self._hold_of(bench, asked.board, asked.token)
            if hold.working:
                raise _refused(
                    RefusalKind.CONFLICT,
                    f"{asked.board}: the work of token {asked.token} itself is {hold.progress.state}. Next: wait for "
                    "its end",
                )
            task = self._start(hold, self._touch(bench, hold, asked))
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        if task.cancelled():
            raise _refused(
                RefusalKind.STALE_TOKEN, f"{asked.board}: the lease with token {asked.token} ended in the middle of it"
            )
        task.result()
        return Done()

    # ---- what it does of itself ------------------------------------------------------------------------------------

    async def announced(self) -> Announced:
        """Say what is there, as it was seen last."""
        return Announced(
            place=self.place, epoch=self.epoch, boards=tuple(bench.rig.offered for bench in self._benches.values())
        )

    async def look_around(self) -> None:
        """Ask the boards that nobody holds who they are. A grant does not wait for the answer."""
        looks = []
        for bench in self._benches.values():
            bench.looking = asyncio.create_task(self._look(bench))
            looks.append(bench.looking)
        # Not awaited by name: one that a grant has cancelled is no failure.
        await asyncio.gather(*looks, return_exceptions=True)

    async def keep_deadlines(self) -> None:
        """End what runs out, in time, for ever."""
        while True:
            self._changed.clear()
            left_s = self.next_deadline_s() - self._clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left_s == math.inf else max(left_s, 0)):
                    await self._changed.wait()
            if not await self.expire():
                await asyncio.sleep(_AGAIN_S)

    def next_deadline_s(self) -> float:
        """Return when the next lease or work that goes on runs out, by the agent's clock."""
        return min(
            (
                min(hold.work_until_s if hold.working else math.inf, self._fence.grants[name][1])
                for name, bench in self._benches.items()
                if not (hold := bench.hold).quiet
            ),
            default=math.inf,
        )

    async def expire(self) -> bool:
        """End what has run out. Tell whether every board could be let go of."""
        return all(await asyncio.gather(*(self._expire(name, bench) for name, bench in self._benches.items())))

    async def close(self) -> None:
        """Let go of every board."""
        for name, bench in self._benches.items():
            self._fence = self._fence.shut(name, max(bench.hold.token, self._fence.grants.get(name, (0, 0.0))[0]))
            async with bench.turn:
                await self._end(bench, AttemptOutcome.LAB, "the place's agent left")

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _bench(self, board: str) -> _Bench:
        if board not in self._benches:
            there = ", ".join(self._benches) or "none"
            raise _refused(RefusalKind.UNKNOWN, f"no board {board!r} at {self.place}; there are {there}")
        return self._benches[board]

    def _admit(self, board: str, token: int) -> None:
        try:
            self._fence.admit(board, token, self._clock())
        except StaleTokenError as error:
            raise _refused(RefusalKind.STALE_TOKEN, str(error)) from error

    def _admitted(self, board: str, token: int) -> bool:
        try:
            self._fence.admit(board, token, self._clock())
        except StaleTokenError:
            return False
        return True

    def _hold_of(self, bench: _Bench, board: str, token: int) -> _Hold:
        self._admit(board, token)
        if bench.hold.token != token:
            raise _refused(
                RefusalKind.CONFLICT, f"{board}: what was before token {token} has not ended. Next: grant it again"
            )
        return bench.hold

    def _start(self, hold: _Hold, doing: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(doing)
        hold.quiet = False
        hold.tasks.add(task)
        task.add_done_callback(hold.tasks.discard)
        self._changed.set()
        return task

    async def _end(self, bench: _Bench, outcome: AttemptOutcome, said: str) -> None:
        """End what the holder does. Its progress says why, unless its work had ended by itself."""
        hold = bench.hold
        tasks = list(hold.tasks)
        for task in tasks:
            task.cancel()
        if not hold.quiet:
            await bench.rig.stop()
            hold.quiet = True
        await asyncio.gather(*tasks, return_exceptions=True)
        if hold.working:
            hold.progress = Progress(state=WorkState.ENDED, outcome=outcome, said=said)

    async def _expire(self, name: str, bench: _Bench) -> bool:
        async with bench.turn:
            hold, now_s = bench.hold, self._clock()
            try:
                if not hold.quiet and not self._admitted(name, hold.token):
                    await self._end(bench, AttemptOutcome.LEASE_LOST, "its lease ended; it was not renewed in time")
                elif hold.working and now_s >= hold.work_until_s:
                    assert hold.work is not None
                    said = f"{hold.work.procedure} was not through within {hold.work.deadline_s:g} s"
                    await self._end(bench, AttemptOutcome.LAB, f"{said}. Next: give it more time, or fewer inputs")
            except Exception:
                log.exception("could not let go of %s; it is tried again", name)
                return False
        return True

    async def _look(self, bench: _Bench) -> None:
        name = bench.rig.offered.name
        async with bench.turn:
            if not bench.hold.quiet or self._admitted(name, bench.hold.token):
                return
            try:
                await bench.rig.look()
            except asyncio.CancelledError:
                await bench.rig.stop()
                raise
            except Exception:
                log.exception("could not look at %s", name)

    async def _work(self, bench: _Bench, hold: _Hold, work: Work) -> None:
        def reached(state: WorkState) -> None:
            if hold.progress.state is not WorkState.ENDED:
                hold.progress = Progress(state=state)

        try:
            order = Order(
                procedure=work.procedure,
                image=await self._fetch(work.image),
                workload=await self._fetch(work.workload),
                deadline_s=work.deadline_s,
                identity=work.identity,
            )
            ended = await bench.rig.work(order, self._ear(bench, hold), reached)
        except RigError as error:
            found = Progress(state=WorkState.ENDED, outcome=error.outcome, said=str(error), report=error.report)
        except Exception as error:
            if not isinstance(error, LookupError | NotAbleError):
                log.exception("%s: %s failed", bench.rig.offered.name, work.procedure)
            found = Progress(state=WorkState.ENDED, outcome=AttemptOutcome.LAB, said=f"{type(error).__name__}: {error}")
        else:
            outcome = AttemptOutcome.PASSED if ended.passed else AttemptOutcome.FAILED
            found = Progress(state=WorkState.ENDED, outcome=outcome, said=ended.said, report=ended.report)
        hold.progress = found

    async def _touch(self, bench: _Bench, hold: _Hold, asked: Touch) -> None:
        try:
            image = None if asked.flash is None else await self._fetch(asked.flash)
            await bench.rig.touch(asked.write, self._ear(bench, hold), reset=asked.reset, image=image)
        except RigError as error:
            raise _refused(RefusalKind.LAB, f"{asked.board}: {error}") from error
        except LookupError as error:
            raise _refused(RefusalKind.UNKNOWN, str(error)) from error
        except NotAbleError as error:
            raise _refused(RefusalKind.BAD_REQUEST, f"{asked.board}: {error}") from error

    def _ear(self, bench: _Bench, hold: _Hold) -> Hear:
        board = bench.rig.offered.name

        def hear(data: bytes) -> None:
            if not data or not self._admitted(board, hold.token):
                return
            self._publish(ConsoleOutput(board=board, token=hold.token, offset=hold.said_bytes, data=data))
            hold.said_bytes += len(data)

        return hear


def _refused(kind: RefusalKind, reason: str) -> RefusedError:
    return RefusedError(kind, reason)
