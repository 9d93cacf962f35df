"""The prefetching pull: one inbox, batch requests that overlap with the work, and nothing that can hang for ever.

nats-py's `fetch` makes a subscription and a task per call, and never returns from some outages. Here requests are
renewed when half of what was asked for is used up; a missed heartbeat, a reconnection or an error status makes a new
one. Protocol: https://github.com/nats-io/nats-architecture-and-design, ADR-37.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.errors import BusClosedError, ConsumerGoneError
from shared.bus.topology import ConsumerSpec

EXPIRES_S: Final = 30.0
HEARTBEAT_S: Final = 3.0
TICK_S: Final = 0.25
"""How soon a reconnection, a closed connection or a missed heartbeat is noticed."""
GONE_AFTER_S: Final = 10.0
"""How long a consumer may be missing: right after a restart the server does not know it yet."""

_LONGEST_PAUSE_S: Final = 5.0
_CLOSE_DEADLINE_S: Final = 5.0

_log = logging.getLogger(__name__)


class Pull:
    """Keeps up to `limit` messages of one durable consumer in `buffer` or on their way there."""

    def __init__(self, nc: Client, spec: ConsumerSpec, wake: asyncio.Event) -> None:
        """Args: wake: set whenever something arrived."""
        self.buffer: deque[Msg] = deque()
        self._nc = nc
        self._spec = spec
        self._wake = wake
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._generation = 0
        self._requested = 0
        self._reconnects = 0
        self._last_seen = 0.0
        self._paused_until = 0.0
        self._troubles = 0
        self._missing_since: float | None = None
        self._fatal: str | None = None

    async def open(self) -> None:
        self._require_open()
        self._inbox = self._nc.new_inbox()
        self._reconnects = self._nc.stats["reconnects"]
        # Our requests bound what can arrive: nats-py's own limit would drop messages silently.
        self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._on_message, pending_bytes_limit=0)

    async def close(self) -> None:
        """Stop; what was on its way has then arrived in `buffer`."""
        if self._subscription is None:
            return
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            async with asyncio.timeout(_CLOSE_DEADLINE_S):
                if self._nc.is_connected:
                    await self._subscription.drain()  # type: ignore[no-untyped-call]
                else:
                    await self._subscription.unsubscribe()
        self._subscription = None

    async def ask(self, limit: int) -> None:
        """Request more when fewer than half of `limit` messages are in the buffer or on their way.

        Raises:
            BusClosedError: the connection was closed for good.
            ConsumerGoneError: the durable was deleted.
        """
        self._require_open()
        await self._watch()
        room = limit - len(self.buffer) - self._requested
        if room <= 0 or room * 2 < limit or not self._nc.is_connected or time.monotonic() < self._paused_until:
            return
        self._requested += room
        self._last_seen = time.monotonic()
        request = {"batch": room, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        await self._nc.publish(self._next, json.dumps(request).encode(), reply=f"{self._inbox}.{self._generation}")

    async def _on_message(self, message: Msg) -> None:
        self._last_seen = time.monotonic()
        if message.reply:
            self.buffer.append(message)
            if self._requested:
                self._requested -= 1
            self._troubles = 0
            self._missing_since = None
        else:
            self._on_status(message)
        self._wake.set()

    def _on_status(self, message: Msg) -> None:
        """React to the server's answer to a request instead of a message."""
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status == "100" or not message.subject.endswith(f".{self._generation}"):
            return  # an idle heartbeat, or the end of a request that we had given up
        description = headers.get("Description", "")
        unused = headers.get("Nats-Pending-Messages", "")
        self._requested = max(0, self._requested - int(unused)) if unused.isdigit() else 0
        if status in {"404", "408"}:
            return  # expired: the ordinary end of a request
        if "consumer deleted" in description.lower() or "push based" in description.lower():
            self._fatal = description
            return
        if status == "503" and self._missing_since is None:
            self._missing_since = time.monotonic()
        self._troubles += 1
        pause_s = min(_LONGEST_PAUSE_S, 0.05 * 2**self._troubles)
        self._paused_until = time.monotonic() + pause_s
        _log.log(
            logging.WARNING if self._troubles > 3 else logging.INFO,
            "%s: the server answered %s %s; asking again in %.2f s",
            self._place,
            status,
            description or "(no responders)",
            pause_s,
        )

    async def _watch(self) -> None:
        """Forget requests that the server no longer knows; give up a consumer that is gone."""
        if self._fatal:
            raise self._gone(self._fatal)
        now = time.monotonic()
        if self._missing_since is not None and now - self._missing_since > GONE_AFTER_S and self._nc.is_connected:
            raise self._gone(f"no consumer answered for {GONE_AFTER_S:g} s")
        reconnects = self._nc.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects = reconnects
            self._forget_requests()
        elif self._requested and now - self._last_seen > 2.5 * HEARTBEAT_S and self._nc.is_connected:
            _log.warning("%s: no heartbeat for %.1f s; asking again", self._place, now - self._last_seen)
            self._forget_requests()

    def _forget_requests(self) -> None:
        self._requested = 0
        self._generation += 1

    def _require_open(self) -> None:
        if self._nc.is_closed:
            raise BusClosedError(
                f"{self._place}: the connection to NATS was closed for good. Next: end and restart this process"
            )

    def _gone(self, why: str) -> ConsumerGoneError:
        return ConsumerGoneError(
            f"{self._place} is gone from the server ({why}). Next: restart this service; it makes its consumers anew"
        )

    @property
    def _place(self) -> str:
        return f"consumer {self._spec.name} of stream {self._spec.stream}"
