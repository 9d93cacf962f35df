"""Long work side by side, with the messages of one key strictly one after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from shared.bus._lanes import Lanes
from shared.bus._settle import Settler
from shared.bus._suspects import Suspects
from shared.bus.delivery import Delivery
from shared.bus.outcomes import Outcome, RetryLater, backoff

CANCEL_DEADLINE_S: Final = 5.0

_log = logging.getLogger(__name__)


class ConcurrentRun:
    """What `Consumer.run_concurrently` has in hand."""

    def __init__(
        self,
        settler: Settler,
        process_one: Callable[[Delivery], Awaitable[Outcome]],
        *,
        concurrency: int,
        key: Callable[[Delivery], str] | None,
        wake: asyncio.Event,
        draining: asyncio.Event,
    ) -> None:
        """Args: wake: set whenever a task ended. draining: once set, nothing new is begun."""
        self._settler = settler
        self._process_one = process_one
        self._concurrency = concurrency
        self._key = key
        self._wake = wake
        self._draining = draining
        self._lanes: Lanes[int] = Lanes()
        self._deliveries: dict[int, Delivery] = {}
        self._arrivals: dict[int, int] = {}
        """By stream sequence, the attempt at which a message was taken in hand: retries here are no crashes."""
        self._suspects: Suspects[tuple[str, int]] = Suspects()
        self._suspect_runs = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._interrupted = False

    @property
    def has_suspects(self) -> bool:
        """Whether something waits to be handled alone: until then, nothing new should come beside it."""
        return self._suspect_runs or bool(self._suspects)

    @property
    def in_hand(self) -> int:
        return len(self._deliveries)

    def replies(self) -> list[str]:
        """Return where to say that work is in progress."""
        return [delivery.reply for delivery in self._deliveries.values()]

    def next_due_s(self) -> float:
        """Return the seconds until a held message may be tried again."""
        due = self._lanes.next_due()
        return float("inf") if due is None else max(0.0, due - asyncio.get_running_loop().time())

    async def admit(self, delivery: Delivery) -> None:
        """Take a delivery in hand, unless it is in hand already or came too often."""
        sequence = delivery.stream_sequence
        known = self._deliveries.get(sequence)
        if known is not None:
            # The server lost sight of it during an outage: the same work answers to the newer delivery.
            self._deliveries[sequence] = replace(delivery, attempt=max(known.attempt, delivery.attempt))
            return
        if verdict := self._settler.unhandled(delivery):
            await self._settler.settle(delivery, verdict)
            return
        self._deliveries[sequence] = delivery
        self._arrivals[sequence] = delivery.attempt
        self._lanes.admit(str(sequence) if self._key is None else self._key(delivery), sequence)

    def start_ready(self) -> None:
        """Begin as much as may run now."""
        now = asyncio.get_running_loop().time()
        if not self._tasks:
            self._suspect_runs = False
        while len(self._tasks) < self._concurrency and not self._suspect_runs:
            ready = self._lanes.next_ready(now)
            if ready is None:
                break
            sequence = ready[1]
            attempt = self._arrivals[sequence]
            if self._settler.is_suspect(attempt):
                self._suspects.add(sequence, attempt, ready)
            else:
                self._start(*ready)
        if self._suspects and not self._tasks:
            self._suspect_runs = True
            self._start(*self._suspects.pop())

    def _start(self, lane: str, sequence: int) -> None:
        task = asyncio.create_task(self._work(lane, sequence))
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("the runner itself failed", exc_info=task.exception())

    async def _work(self, lane: str, sequence: int) -> None:
        outcome = await self._process(sequence)
        if outcome is None:
            return  # draining: it stays in hand, to be handed back
        delivery = self._deliveries[sequence]
        outcome = self._settler.decide(delivery, outcome)
        if isinstance(outcome, RetryLater) and self._key is not None:
            _log.info("%s: again in %.2f s: %s", delivery, outcome.delay_s, outcome.reason)
            self._deliveries[sequence] = replace(delivery, attempt=delivery.attempt + 1)
            self._settler.tell(delivery, outcome)
            self._lanes.hold(lane, asyncio.get_running_loop().time() + outcome.delay_s, sequence)
            return
        await self._settler.settle(delivery, outcome)
        del self._deliveries[sequence], self._arrivals[sequence]
        self._lanes.finish(lane)

    async def _process(self, sequence: int) -> Outcome | None:
        failures = 0
        while True:
            delivery = self._deliveries[sequence]
            try:
                return await self._process_one(delivery)
            except Exception:  # noqa: BLE001 - not the message's fault: it must not be lost for it
                failures += 1
                pause_s = backoff(failures, longest_s=30)
                _log.exception("%s: handling failed, again in %.2f s", delivery, pause_s)
                try:
                    async with asyncio.timeout(pause_s):
                        await self._draining.wait()
                except TimeoutError:
                    continue
                return None

    async def finish(self) -> None:
        """Wait for what was begun; `interrupt` ends the waiting."""
        while self._tasks and not self._interrupted:
            await asyncio.wait(self._tasks, timeout=0.25)

    def interrupt(self) -> None:
        """Stop what was begun."""
        self._interrupted = True
        for task in self._tasks:
            task.cancel()

    async def abandon(self) -> list[Delivery]:
        """Stop everything, and return what was not settled, in stream order."""
        self.interrupt()
        if self._tasks:
            # Bounded: nats-py and user code may swallow a cancellation.
            await asyncio.wait(self._tasks, timeout=CANCEL_DEADLINE_S)
        return [self._deliveries[sequence] for sequence in sorted(self._deliveries)]
