"""The life of a service: connect, prepare, handle until told to stop, drain."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeVar
from uuid import UUID

from nats.aio.client import Client
from pydantic import ValidationError
from sqlalchemy import MetaData
from sqlalchemy.exc import OperationalError
from starlette.routing import BaseRoute

from shared.bus import BusUnreachableError, Publisher, ServerTooOldError, TopologyError, connect, ensure_streams
from shared.events import derived_id
from shared.observability import HttpServer, PortInUseError, Tracing, configure_logs
from shared.runtime.consumers import Lane, lanes_of
from shared.runtime.emitter import Emitter, name_of, require_declared
from shared.runtime.handlers import Emissions, Route, Timer, Transaction
from shared.runtime.processing import Pipeline
from shared.runtime.settings import BaseServiceSettings, wrong_variables
from shared.store import Blobs, Inbox, Outbox, OutgoingMessage, Store, StoreUnavailableError, inbox, outbox

log = logging.getLogger(__name__)

S = TypeVar("S", bound=BaseServiceSettings)
D = TypeVar("D")

HOUSEKEEPING_S: Final = 60.0
CANCELLATIONS: Final = 5
EXIT_OK, EXIT_USAGE, EXIT_INFRASTRUCTURE = 0, 2, 3


@dataclass(frozen=True)
class Unit:
    """One transaction with what it has to say."""

    tx: Transaction
    emit: Callable[[Emissions, UUID, UUID], None]
    """``emit(payloads, cause_id, run_id)``: the ids are derived from `cause_id`."""


@dataclass(frozen=True)
class Resources:
    """What the runtime lends to a service's dependencies."""

    name: str
    nc: Client
    publisher: Publisher
    blobs: Blobs
    store: Store
    outbox: Outbox
    emitter: Emitter

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Unit]:
        """Open a transaction for work that no event caused: background tasks, HTTP routes, timers."""
        messages: list[OutgoingMessage] = []
        now = datetime.now(UTC)
        async with self.store.transaction() as tx:

            def emit(emissions: Emissions, cause_id: UUID, run_id: UUID) -> None:
                messages.extend(self.emitter.messages(emissions, now=now, cause_id=cause_id, run_id=run_id))

            yield Unit(tx, emit)
            self.outbox.write(tx, messages, now)
        self.outbox.committed(messages)
        await self.outbox.flush()


@dataclass(frozen=True)
class Service(Generic[S, D]):
    """A service as data: `run` does the rest."""

    name: str
    settings: Callable[[], S]
    deps: Callable[[S, Resources], AbstractAsyncContextManager[D]]
    routes: Sequence[Route] = ()
    metadata: MetaData = field(default_factory=MetaData)
    http: Callable[[D], Sequence[BaseRoute]] = lambda _deps: ()
    background: Sequence[Callable[[D], Awaitable[None]]] = ()
    receiver: Callable[[S], str] | None = None
    """Whose commands it takes; none: its own name as a slug."""


def run(service: Service[S, D]) -> NoReturn:
    """Run `service` until SIGTERM or SIGINT, then exit: 0 drained, 2 wrong settings, 3 infrastructure."""
    try:
        settings = service.settings()
    except ValidationError as error:
        sys.exit(_said(EXIT_USAGE, f"{service.name}: wrong settings: {wrong_variables(error)}"))
    configure_logs(service.name, style=settings.log_style, level=settings.log_level)
    try:
        asyncio.run(_live(service, settings))
    except (BusUnreachableError, ServerTooOldError, TopologyError, StoreUnavailableError, PortInUseError) as error:
        sys.exit(_said(EXIT_INFRASTRUCTURE, f"{service.name}: {error}"))
    except (OSError, OperationalError) as error:
        log.critical("the machine failed", exc_info=error)
        sys.exit(_said(EXIT_INFRASTRUCTURE, f"{service.name}: {_trouble(error, settings)}"))
    sys.exit(EXIT_OK)


def _trouble(error: OSError | OperationalError, settings: BaseServiceSettings) -> str:
    """Return what the last line of the log says: the one that a supervisor shows."""
    said = str(error.orig if isinstance(error, OperationalError) else error)
    if "disk is full" in said or "No space left" in said:
        return f"{settings.data}: {said}. Next: free some space, or move EDGELOOP_DATA to a larger disk"
    return said


def _said(code: int, message: str) -> int:
    sys.stderr.write(message + "\n")
    return code


async def _live(service: Service[S, D], settings: S) -> None:
    stop, leaving = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        nc = await connect(
            settings.nats_url,
            name=service.name,
            deadline_s=settings.connect_deadline_s,
            on_closed=lambda: _bus_closed(leaving),
        )
        stack.push_async_callback(nc.close)
        stack.callback(leaving.set)
        js = nc.jetstream()
        await ensure_streams(js)
        store = Store(settings.database_of(service.name), service.metadata, inbox.METADATA, outbox.METADATA)
        stack.callback(store.close)
        pipeline, resources = _resources(service.name, nc, store)
        await pipeline.outbox.recover(datetime.now(UTC), all_rows=True)
        deps = await stack.enter_async_context(service.deps(settings, resources))
        receiver = service.receiver(settings) if service.receiver else service.name.replace("_", "-")
        lanes = await lanes_of(service.routes, receiver=receiver, nc=nc, pipeline=pipeline, deps=deps)
        http = HttpServer(settings.http_host, settings.http_port, probes=_probes(nc, store), routes=service.http(deps))
        await stack.enter_async_context(http.serving())
        stack.callback(_announce(settings.data, service.name, http.url))
        await _until(stop, _tasks(service, resources, deps, lanes), lanes)
        await pipeline.outbox.close()
    log.info("drained")


def _resources(name: str, nc: Client, store: Store) -> tuple[Pipeline, Resources]:
    publisher = Publisher(nc, source=name)

    async def publish(messages: Sequence[OutgoingMessage]) -> None:
        await publisher.publish_many([(message.subject, message.body, message.message_id) for message in messages])

    box = Outbox(store, publish)
    emitter = Emitter(name)
    pipeline = Pipeline(name, store, box, emitter, Tracing(name))
    return pipeline, Resources(name, nc, publisher, Blobs(nc.jetstream()), store, box, emitter)


def _tasks(
    service: Service[S, D], resources: Resources, deps: D, lanes: Sequence[Lane]
) -> list[Coroutine[Any, Any, None]]:
    timers = [_tick(timer, resources, deps) for timer in service.routes if isinstance(timer, Timer)]
    background = [_as_coroutine(task, deps) for task in service.background]
    return [_housekeeping(resources), *timers, *background, *(lane.run() for lane in lanes)]


async def _until(stop: asyncio.Event, work: Sequence[Coroutine[Any, Any, None]], lanes: Sequence[Lane]) -> None:
    """Run `work` until `stop` is set, then drain. The first failure of any part ends them all, and the process."""
    log.info("ready", extra={"consumers": [lane.name for lane in lanes]})
    tasks = [asyncio.create_task(part) for part in work]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
            raise RuntimeError(f"{task.get_coro()} ended by itself")
        await asyncio.gather(*(lane.drain() for lane in lanes))
    finally:
        await _cancelled([*tasks, stopping])


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    # More than once: `asyncio.wait_for`, which nats-py waits with, can lose a cancellation (python/cpython#86296).
    pending = set(tasks)
    for _ in range(CANCELLATIONS):
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
        if not pending:
            return
    log.warning("left %d tasks running: %s", len(pending), pending)


async def _as_coroutine(task: Callable[[D], Awaitable[None]], deps: D) -> None:
    await task(deps)


async def _tick(timer: Timer, resources: Resources, deps: object) -> None:
    name = name_of(timer)
    while True:
        await asyncio.sleep(timer.period_s)
        now = datetime.now(UTC)
        cause = derived_id(resources.name, name, now.isoformat())
        try:
            async with resources.unit() as unit:
                emissions = await timer.call(now, deps, unit.tx)
                require_declared(timer, emissions)
                unit.emit(emissions, cause, cause)
        except Exception:
            log.exception("timer %s failed; it runs again in %s s", name, timer.period_s)


async def _housekeeping(resources: Resources) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        now = datetime.now(UTC)
        try:
            async with resources.store.transaction() as tx:
                Inbox.forget(tx, now)
            await resources.outbox.recover(now, all_rows=False)
        except Exception:
            log.exception("housekeeping failed; it runs again in %s s", HOUSEKEEPING_S)


def _probes(nc: Client, store: Store) -> dict[str, Callable[[], Awaitable[None]]]:
    async def bus() -> None:
        if not nc.is_connected:
            raise ConnectionError("not connected")

    return {"bus": bus, "database": store.ping}


def _announce(data: Path, name: str, url: str) -> Callable[[], None]:
    """Write where this service is to be found; return what takes it back."""
    file = data / "run" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".tmp")
    written.write_text(json.dumps({"name": name, "pid": os.getpid(), "http": url}) + "\n", encoding="utf-8")
    written.replace(file)
    return lambda: file.unlink(missing_ok=True)


def _bus_closed(leaving: asyncio.Event) -> None:
    if not leaving.is_set():
        log.critical("the connection to the bus was closed for good; leaving, so that a supervisor starts this again")
        os._exit(EXIT_INFRASTRUCTURE)
