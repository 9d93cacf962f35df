"""The runner over one durable pull consumer: short work in batches, long work side by side.

What is promised in both ways of running:

* A message is acknowledged only after its handling ended with `Done`; a crash at any point means one more delivery.
* `RetryLater` delivers again after a delay; on the last of `ConsumerSpec.max_attempts` it becomes a dead letter.
* `DeadLetter` stores the message in the DLQ first and terminates it then.
* A message that kills the process each time becomes a dead letter when it arrives once too often, and its neighbours
  are spared (see `_suspects`).
* An exception from the handling function is the infrastructure's (a database is down): nothing is acknowledged,
  everything stays in hand and alive, and the same call is made again after a pause.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from nats.aio.client import Client

from shared.bus._concurrent import CANCEL_DEADLINE_S, ConcurrentRun
from shared.bus._pull import TICK_S, Pull
from shared.bus._settle import Settler
from shared.bus._suspects import Suspects
from shared.bus.delivery import Delivery, delivery_of
from shared.bus.outcomes import Outcome, backoff
from shared.bus.topology import ConsumerSpec

DRAIN_DEADLINE_S: Final = 20.0

_log = logging.getLogger(__name__)


class Consumer:
    """One process's part in a durable consumer. Use each object for one run."""

    def __init__(
        self,
        nc: Client,
        spec: ConsumerSpec,
        *,
        batch: int = 256,
        on_settled: Callable[[Delivery, Outcome], None] | None = None,
    ) -> None:
        """Args:
        batch: most messages handed over at once, and most in hand waiting for their key.
        on_settled: told how each delivery ended, dead letters made by the runner itself included.
        """
        self._nc = nc
        self._spec = spec
        self._batch = batch
        self._wake = asyncio.Event()
        self._pull = Pull(nc, spec, self._wake)
        self._settler = Settler(nc, spec, on_settled)
        self._draining = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._work: asyncio.Future[Sequence[Outcome]] | None = None
        self._current: Sequence[Delivery] = ()
        self._suspects: Suspects[Delivery] = Suspects()
        self._concurrent: ConcurrentRun | None = None

    async def run_batches(self, process: Callable[[Sequence[Delivery]], Awaitable[Sequence[Outcome]]]) -> None:
        """Hand over whatever is there, up to `batch` messages, until `drain`; one outcome per delivery, in order.

        Deliveries come in stream order when they come for the first time. One that comes again, after `RetryLater` or
        after a crash, is handed over alone, and later ones do not wait for it. (`run_concurrently` with a key holds
        them back.)

        Raises:
            BusClosedError, ConsumerGoneError: this process cannot go on.
        """
        await self._begin()
        keepalive = asyncio.create_task(self._keep_alive())
        try:
            while not self._draining.is_set():
                self._wake.clear()
                deliveries = self._next_batch()
                if not self._suspects:
                    # What comes next travels while this is being handled.
                    await self._pull.ask(self._batch)
                if not deliveries:
                    await _wait_for(self._wake, TICK_S)
                elif await self._handle_batch(process, deliveries):
                    await asyncio.sleep(0)
        finally:
            keepalive.cancel()
            await self._end([*self._current, *self._suspects.all()])

    async def run_concurrently(
        self,
        process_one: Callable[[Delivery], Awaitable[Outcome]],
        *,
        concurrency: int,
        key: Callable[[Delivery], str] | None = None,
    ) -> None:
        """Handle up to `concurrency` messages at a time, for as long as each takes, until `drain`.

        Args:
            process_one: may take hours: its message is kept alive.
            concurrency: at most so many calls at once.
            key: deliveries with the same key are handled strictly one after the other, in stream order; one that ends
                with `RetryLater` holds its successors back until it succeeded or died. The order is that of this
                process: replicas of one durable share its messages without regard to keys.

        Raises:
            BusClosedError, ConsumerGoneError: this process cannot go on.
        """
        run = self._concurrent = ConcurrentRun(
            self._settler, process_one, concurrency=concurrency, key=key, wake=self._wake, draining=self._draining
        )
        most_in_hand = concurrency if key is None else max(self._batch, concurrency)
        await self._begin()
        keepalive = asyncio.create_task(self._keep_alive())
        try:
            while not self._draining.is_set():
                self._wake.clear()
                for delivery in self._take(len(self._pull.buffer)):
                    await run.admit(delivery)
                run.start_ready()
                if not run.has_suspects:
                    await self._pull.ask(most_in_hand - run.in_hand)
                await _wait_for(self._wake, min(TICK_S, run.next_due_s()))
            await run.finish()
        finally:
            keepalive.cancel()
            await self._end(await run.abandon())

    async def drain(self, deadline_s: float = DRAIN_DEADLINE_S) -> None:
        """End the run: finish and acknowledge what is being handled, hand everything else back for others.

        Args:
            deadline_s: what is not finished by then is interrupted and handed back too.
        """
        self._draining.set()
        self._wake.set()
        try:
            async with asyncio.timeout(deadline_s):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("%s: not finished within %.1f s; interrupting", self._spec.name, deadline_s)
            if self._work is not None:
                self._work.cancel()
            if self._concurrent is not None:
                self._concurrent.interrupt()
            await _wait_for(self._ended, 2 * CANCEL_DEADLINE_S)

    async def _begin(self) -> None:
        self._ended.clear()
        try:
            await self._pull.open()
        except BaseException:
            self._ended.set()
            raise

    async def _end(self, unfinished: Iterable[Delivery]) -> None:
        """Give back what was not handled, in order, and see to it that the acknowledgements left this process."""
        try:
            await self._pull.close()
            waiting = self._take(len(self._pull.buffer))
            if self._nc.is_connected:
                for delivery in [*unfinished, *waiting]:
                    await self._settler.hand_back(delivery)
                await self._nc.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, the server delivers again after ack_wait
            _log.warning("%s: could not hand everything back: %r", self._spec.name, error)
        finally:
            self._current = ()
            self._ended.set()

    def _next_batch(self) -> Sequence[Delivery]:
        """Return what to handle next: first deliveries together, and when there are none, one suspect."""
        deliveries = self._take(self._batch)
        if deliveries and max(delivery.attempt for delivery in deliveries) > 1:
            for delivery in deliveries:
                if delivery.attempt > 1:
                    self._suspects.add(delivery.stream_sequence, delivery.attempt, delivery)
            deliveries = [delivery for delivery in deliveries if delivery.attempt == 1]
        if not deliveries and self._suspects:
            return [self._suspects.pop()]
        return deliveries

    def _take(self, most: int) -> list[Delivery]:
        buffer = self._pull.buffer
        return [delivery_of(buffer.popleft()) for _ in range(min(most, len(buffer)))]

    async def _handle_batch(
        self, process: Callable[[Sequence[Delivery]], Awaitable[Sequence[Outcome]]], deliveries: Sequence[Delivery]
    ) -> bool:
        """Handle and settle; False when `drain` came first, and `_current` was not handled."""
        settler = self._settler
        self._current = deliveries
        if verdict := settler.unhandled(deliveries[0]):  # a suspect, and alone
            await settler.settle(deliveries[0], verdict)
            self._current = ()
            return True
        outcomes = await self._process(process, deliveries)
        if outcomes is None:
            return False
        if len(outcomes) != len(deliveries):
            raise RuntimeError(f"{self._spec.name}: {len(deliveries)} deliveries got {len(outcomes)} outcomes")
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            await settler.settle(delivery, settler.decide(delivery, outcome))
        self._current = ()
        return True

    async def _process(
        self, process: Callable[[Sequence[Delivery]], Awaitable[Sequence[Outcome]]], deliveries: Sequence[Delivery]
    ) -> Sequence[Outcome] | None:
        """Call `process` until it answers; None when `drain` interrupted it."""
        failures = 0
        while True:
            self._work = asyncio.ensure_future(process(deliveries))
            try:
                return await self._work
            except asyncio.CancelledError:
                if self._work.cancelled() and self._draining.is_set():
                    return None
                self._work.cancel()
                raise
            except Exception:  # noqa: BLE001 - not the messages' fault: they must not be lost for it
                failures += 1
                pause_s = backoff(failures, longest_s=30)
                _log.exception(
                    "%s: handling %d messages failed, again in %.2f s", self._spec.name, len(deliveries), pause_s
                )
                await _wait_for(self._draining, pause_s)
                if self._draining.is_set():
                    return None
            finally:
                self._work = None

    async def _keep_alive(self) -> None:
        """Tell the server of everything in hand that it is not lost."""
        while True:
            await asyncio.sleep(self._spec.ack_wait_s / 3)
            in_hand = [delivery.reply for delivery in self._current]
            in_hand += [delivery.reply for delivery in self._suspects.all()]
            in_hand += [message.reply for message in self._pull.buffer]
            if self._concurrent is not None:
                in_hand += self._concurrent.replies()
            if self._nc.is_connected:
                for reply in in_hand:
                    await self._settler.say_in_progress(reply)


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
