"""What a gateway does by itself: look at its boards, and carry their telemetry to the bus.

Telemetry is stored before a board may forget it, and forgotten here once the bus has acknowledged it. While the bus is
away no board is read: it goes on counting into its open report, so an outage costs resolution and never counts.
"""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from device_gateway import metrics, store
from device_gateway.domain import Sighting, is_worth_saying, sight
from device_gateway.drivers import DriverError, SlotState
from device_gateway.gateway import Gateway
from device_gateway.sessions import Session
from shared.bus import PublishError
from shared.events import derived_id
from shared.events.device import DeviceState
from shared.telemetry import DeviceReport

_log = logging.getLogger(__name__)
AT_ONCE = 16


async def watch_states(gateway: Gateway) -> None:
    """Report every board whenever its state changes, and from time to time."""
    while True:
        try:
            await look_at_boards(gateway)
        except SQLAlchemyError:
            _log.exception("the database failed; the boards are read again in %s s", gateway.settings.state_period_s)
        await asyncio.sleep(gateway.settings.state_period_s)


async def look_at_boards(gateway: Gateway) -> None:
    """Look once at every board that is not being installed."""
    limit = asyncio.Semaphore(AT_ONCE)
    looks = await asyncio.gather(*(_look(gateway, session, limit) for session in gateway.sessions.values()))
    metrics.show_states(session.sighting.state for session in gateway.sessions.values() if session.sighting)
    # Whoever was installed while slower boards were looked at has reported something newer.
    news = [(session, seen) for session, seen in looks if seen is not None and session.sighting is seen]
    if not news:
        return
    now = datetime.now(UTC)
    try:
        async with gateway.unit() as unit:
            known = store.digests(unit.tx)
            for session, seen in news:
                cause = derived_id("look", gateway.config.gateway, session.entry.id, now.isoformat())
                unit.emit([gateway.report(session, seen, known.get(seen.image_hash), now)], cause, cause)
    except PublishError as error:
        # Committed all the same: the outbox says it when the bus is back.
        _log.warning("the states of %d boards wait for the bus: %s", len(news), error)
    for session, seen in news:
        if session.sighting is seen:
            session.sighting = replace(seen, said_at=now)


async def _look(gateway: Gateway, session: Session, limit: asyncio.Semaphore) -> tuple[Session, Sighting | None]:
    """Update the session's sighting; return it if it is worth saying."""
    if session.lock.locked():
        return session, None  # Being installed: the installation reports.
    slots: tuple[SlotState, ...] | None = None
    async with limit, session.lock:
        try:
            if session.board_class is None:
                session.board_class = (await session.driver.identify()).board_class
            slots = await session.driver.read_state()
        except DriverError as error:
            _log.debug("%s: %s", session.entry.id, error)
        now, before = datetime.now(UTC), session.sighting
        settings = gateway.settings
        seen = session.sighting = sight(before, slots, now, lost_after_s=settings.lost_after_s)
    return session, seen if is_worth_saying(before, seen, now, report_period_s=settings.report_period_s) else None


async def forward_telemetry(gateway: Gateway) -> None:
    """Carry telemetry to the bus, a batch each period."""
    while True:
        try:
            await deliver(gateway)
            await collect(gateway)
            await deliver(gateway)
        except PublishError as error:
            _log.warning("telemetry waits for the bus: %s", error)
        except SQLAlchemyError:
            _log.exception("the database failed; telemetry stays on the boards")
        await asyncio.sleep(gateway.settings.telemetry_period_s)


async def collect(gateway: Gateway) -> None:
    """Read one report of every board that has one, and store them as a batch."""
    async with gateway.unit() as unit:
        known, cursors = store.digests(unit.tx), store.cursors(unit.tx)
    limit = asyncio.Semaphore(AT_ONCE)
    reads = [_read(session, cursors.get(name, 0), known, limit) for name, session in gateway.sessions.items()]
    reports = [report for report in await asyncio.gather(*reads) if report is not None]
    if reports:
        async with gateway.unit() as unit:
            store.keep_reports(
                unit.tx, reports, gateway=gateway.config.gateway, project=gateway.config.project, now=datetime.now(UTC)
            )


async def _read(session: Session, after: int, known: dict[str, str], limit: asyncio.Semaphore) -> DeviceReport | None:
    silent = session.sighting is None or session.sighting.state is DeviceState.LOST
    if silent or session.lock.locked():
        return None
    async with limit, session.lock:
        try:
            read = await session.driver.read_telemetry(after)
        except DriverError as error:
            _log.debug("%s: %s", session.entry.id, error)
            return None
    if read is None:
        return None
    report = DeviceReport()
    report.CopyFrom(read.report)
    report.device, report.board = session.entry.id, session.entry.board
    report.digest = known.get(read.image_hash, "")
    return report


async def deliver(gateway: Gateway) -> None:
    """Publish what is stored, in order.

    Raises:
        PublishError: the bus did not acknowledge a batch; it stays stored, with the same id.
    """
    async with gateway.unit() as unit:
        batches = store.undelivered(unit.tx)
    metrics.WAITING.set(len(batches))
    for batch in batches:
        await gateway.publish(batch)
        metrics.INFERENCES.inc(sum(report.inferences for report in batch.reports))
        async with gateway.unit() as unit:
            store.delivered(unit.tx, batch)
