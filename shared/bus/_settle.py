"""Turning outcomes into acknowledgements, and messages that cannot be handled into dead letters."""

import contextlib
import json
import logging
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client

from shared.bus.deadletters import dead_letter_of
from shared.bus.delivery import Delivery
from shared.bus.errors import PublishError
from shared.bus.outcomes import LONGEST_DELAY_S, SHORTEST_DELAY_S, DeadLetter, Done, Outcome, RetryLater
from shared.bus.publisher import Publisher
from shared.bus.topology import ConsumerSpec

_log = logging.getLogger(__name__)


class Settler:
    """Tells the server how the handling of each delivery ended.

    Acknowledgements are sent, not confirmed: one that is lost with the connection means one more delivery, which the
    inbox recognises.
    """

    def __init__(
        self, nc: Client, spec: ConsumerSpec, on_settled: Callable[[Delivery, Outcome], None] | None = None
    ) -> None:
        """Args: on_settled: told every final decision, for metrics."""
        self._nc = nc
        self._spec = spec
        self._on_settled = on_settled
        self._publisher = Publisher(nc, spec.name)

    def decide(self, delivery: Delivery, outcome: Outcome) -> Outcome:
        """Return what `outcome` comes to: the last attempt is not followed by another."""
        if isinstance(outcome, RetryLater) and delivery.attempt >= self._spec.max_attempts:
            return DeadLetter(f"gave up after {delivery.attempt} attempts: {outcome.reason}")
        return outcome

    def unhandled(self, delivery: Delivery) -> DeadLetter | None:
        """Return the verdict on a message that was delivered too often to be handled once more."""
        if delivery.attempt <= self._spec.max_attempts:
            return None
        return DeadLetter(
            f"delivered {delivery.attempt} times, {self._spec.max_attempts} are allowed, and no attempt came to an "
            "end: it probably kills or blocks the process that handles it"
        )

    def is_suspect(self, attempt: int) -> bool:
        """Whether a message has only its last two attempts left: time to handle it alone (see `_suspects`)."""
        return attempt > 1 and attempt >= self._spec.max_attempts - 1

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Carry out what `decide` or `unhandled` returned."""
        if type(outcome) is Done:
            await self.answer(delivery, b"")
        elif type(outcome) is RetryLater:
            _log.info("%s: again in %.2f s: %s", delivery, outcome.delay_s, outcome.reason)
            await self.nak(delivery, outcome.delay_s)
        elif type(outcome) is DeadLetter:
            await self._bury(delivery, outcome)
        self.tell(delivery, outcome)

    def tell(self, delivery: Delivery, outcome: Outcome) -> None:
        """Report a decision to whoever counts them."""
        if self._on_settled is not None:
            self._on_settled(delivery, outcome)

    async def nak(self, delivery: Delivery, delay_s: float) -> None:
        """Ask for another delivery, after a delay at any rate."""
        delay_ns = int(max(delay_s, SHORTEST_DELAY_S) * 1e9)
        await self.answer(delivery, b"-NAK " + json.dumps({"delay": delay_ns}).encode())

    async def hand_back(self, delivery: Delivery) -> None:
        """Let another replica have a delivery at once: nobody has begun with it, or can finish it."""
        await self.answer(delivery, b"-NAK")

    async def _bury(self, delivery: Delivery, verdict: DeadLetter) -> None:
        letter = dead_letter_of(delivery, verdict.reason)
        try:
            await self._publisher.publish_message(letter.subject, letter.body, letter.message_id, letter.headers)
        except PublishError as error:
            # Losing it is not an option, and neither is blocking the others.
            _log.error("%s: could not become a dead letter, trying again later: %s", delivery, error)
            await self.nak(delivery, LONGEST_DELAY_S if error.permanent else 5)
            return
        _log.error("%s: dead letter: %s", delivery, verdict.reason)
        reason = verdict.reason.encode(errors="replace")[:200].replace(b"\n", b" ")
        await self.answer(delivery, b"+TERM " + reason)

    async def say_in_progress(self, reply: str) -> None:
        """Start the server's clock for this delivery anew; where that fails, it delivers again."""
        with contextlib.suppress(nats.errors.Error):
            await self._nc.publish(reply, b"+WPI")

    async def answer(self, delivery: Delivery, body: bytes) -> None:
        try:
            await self._nc.publish(delivery.reply, body)
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            _log.warning("%s: acknowledgement lost (%s); it will be delivered again", delivery, error)
