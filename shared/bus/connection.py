"""One connection per process, with a deadline at the start and none afterwards."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from shared.bus.errors import BusUnreachableError, ServerTooOldError

OLDEST_SERVER: Final = (2, 11)

_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})

_log = logging.getLogger(__name__)


async def connect(
    url: str, *, name: str, deadline_s: float = 10, on_closed: Callable[[], None] | None = None
) -> Client:
    """Connect to the server at `url`, and keep reconnecting to it for ever once that succeeded.

    Args:
        url: ``nats://host:port``.
        name: shown in the server's list of connections.
        deadline_s: nats-py itself would try for ever and say nothing.
        on_closed: called when the connection has ended for good, by whatever hand; the process should end too.

    Raises:
        BusUnreachableError: nothing answered in `deadline_s`, or it refused us.
        ServerTooOldError: the server is older than 2.11.
    """
    place = _checked(url)
    nc, watcher = Client(), _Watcher(place, on_closed)
    try:
        async with asyncio.timeout(deadline_s):
            await nc.connect(
                url,
                name=name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; nats-py sleeps fractions too
                connect_timeout=2,
                ping_interval=10,
                max_outstanding_pings=2,
                error_cb=watcher.note_error,
                disconnected_cb=watcher.note_disconnected,
                reconnected_cb=watcher.note_reconnected,
                closed_cb=watcher.note_closed,
            )
        require_version(nc, place)
    except ServerTooOldError:
        await nc.close()
        raise
    except (TimeoutError, OSError, nats.errors.Error) as error:
        await nc.close()
        found = watcher.last_error or error
        raise BusUnreachableError(
            f"no NATS server let us in at {place} within {deadline_s:g} s ({str(found) or type(found).__name__}). "
            "Next: start one with `edgeloop up`, or correct the address (EDGELOOP_NATS_URL, --nats-url)"
        ) from error
    watcher.was_let_in = True
    return nc


class _Watcher:
    """Logs what becomes of a connection."""

    def __init__(self, place: str, on_closed: Callable[[], None] | None) -> None:
        self.last_error: Exception | None = None
        self.was_let_in = False
        self._place = place
        self._on_closed = on_closed

    async def note_error(self, error: Exception) -> None:
        self.last_error = error
        # Every failed reconnection comes through here: the disconnection itself was already logged.
        _log.log(logging.DEBUG if isinstance(error, OSError) else logging.WARNING, "bus error: %r", error)

    async def note_disconnected(self) -> None:
        _log.warning("disconnected from %s", self._place)

    async def note_reconnected(self) -> None:
        _log.warning("reconnected to %s", self._place)

    async def note_closed(self) -> None:
        if self.was_let_in:
            _log.warning("connection to %s closed", self._place)
            if self._on_closed is not None:
                self._on_closed()


def require_version(nc: Client, place: str) -> None:
    """Refuse servers that silently ignore fields we depend on.

    Raises:
        ServerTooOldError: with the version found and the one needed.
    """
    version = nc.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        needed = ".".join(map(str, OLDEST_SERVER))
        raise ServerTooOldError(
            f"the NATS server at {place} is {version.major}.{version.minor}.{version.patch}; {needed} or later is "
            "needed, because older ones silently ignore consumer settings. Next: upgrade it, or let `edgeloop up` "
            "start the one that comes with Edgeloop"
        )


def _checked(url: str) -> str:
    """Return `url` without credentials, for messages."""
    parts = urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise BusUnreachableError(
            f"{place!r} is no NATS address; allowed are {', '.join(sorted(_SCHEMES))}, as in nats://127.0.0.1:4222. "
            "Next: correct EDGELOOP_NATS_URL or --nats-url"
        )
    return place
