"""What a gateway does when it is told to."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from device_gateway import metrics, store
from device_gateway.domain import Order, Progress, Verdict, sight
from device_gateway.drivers import DriverError
from device_gateway.gateway import Gateway
from device_gateway.images import ImageError, check_fit, parse_image, verify_image
from device_gateway.install import Ended, Installation
from device_gateway.sessions import Session
from shared.events import Event
from shared.events.device import ORDERS_AT_ONCE, DeviceReported, InstallObserved, InstallOutcome, InstallRelease
from shared.runtime.handlers import Emissions, Route, works_on
from shared.store import BlobMissingError

_log = logging.getLogger(__name__)


class _RefusedError(Exception):
    """The order is refused before the board is touched."""


@works_on(
    InstallRelease,
    key=lambda order: order.device,
    concurrency=ORDERS_AT_ONCE,
    emits=(InstallObserved, DeviceReported),
)
async def install_release(event: Event[InstallRelease], gateway: Gateway) -> Emissions:
    """Bring one device to one release and say what was observed at the end."""
    command, now = event.data, datetime.now(UTC)
    async with gateway.unit() as unit:
        highest, trials, began_at = store.admit(unit.tx, command.device, command.fencing_token, now)
    try:
        session = _session_for(gateway, command, highest)
        image = await _fetch_verified(gateway, session, command)
    except _RefusedError as refusal:
        return [await _observed(gateway, command, Ended(Verdict(InstallOutcome.REFUSED, str(refusal)), ()), began_at)]
    async with session.lock:
        ended = await _install(gateway, session, command, image, trials)
        report = await _report(gateway, session, ended)
    return [await _observed(gateway, command, ended, began_at), *report]


ROUTES: Final[tuple[Route, ...]] = (install_release,)


def _session_for(gateway: Gateway, command: InstallRelease, highest_token: int) -> Session:
    if command.device not in gateway.sessions:
        raise _RefusedError(f"no device {command.device!r} here; there are {', '.join(gateway.sessions)}")
    if command.fencing_token < highest_token:
        raise _RefusedError(f"fencing token {command.fencing_token} is older than {highest_token}, which was obeyed")
    return gateway.sessions[command.device]


async def _fetch_verified(gateway: Gateway, session: Session, command: InstallRelease) -> bytes | None:
    """Return the image's bytes once nothing speaks against sending them."""
    if command.image is None:
        return None
    try:
        data = await gateway.fetch(command.image.digest)
        image = verify_image(data, gateway.keys) if gateway.keys else parse_image(data)
        if image.image_hash != command.image_hash:
            raise _RefusedError(f"the image's hash is {image.image_hash}, the order says {command.image_hash}")
        check_fit(image, session.board)
    except (BlobMissingError, ImageError) as error:
        raise _RefusedError(str(error)) from error
    if command.digest is not None:
        async with gateway.unit() as unit:
            store.remember_image(unit.tx, command.image_hash, command.digest)
    return data


async def _install(
    gateway: Gateway, session: Session, command: InstallRelease, image: bytes | None, trials: int
) -> Ended:
    async def count_trial() -> None:
        async with gateway.unit() as unit:
            store.count_trial(unit.tx, command.device)

    try:
        identity = await session.driver.identify()
    except DriverError:
        pass  # Silent now: the installation itself waits until its deadline.
    else:
        session.board_class = identity.board_class
        if identity.board and identity.board != session.entry.board:
            reason = f"the board says it is a {identity.board}, gateway.yaml says {session.entry.board}; mend the file"
            return Ended(Verdict(InstallOutcome.REFUSED, reason), ())
    return await Installation(
        driver=session.driver,
        order=Order(wanted=command.image_hash, has_image=image is not None),
        image=image,
        golden=command.golden,
        progress=Progress(trials=trials),
        count_trial=count_trial,
        deadline_s=command.deadline_s,
    ).run()


async def _report(gateway: Gateway, session: Session, ended: Ended) -> list[DeviceReported]:
    """Say the board's state at once: the rollout must not wait for the next poll."""
    if ended.active is None:
        return []
    now = datetime.now(UTC)
    seen = sight(session.sighting, ended.slots, now, lost_after_s=gateway.settings.lost_after_s)
    session.sighting = replace(seen, said_at=now)
    async with gateway.unit() as unit:
        digest = store.digests(unit.tx).get(seen.image_hash)
    return [gateway.report(session, seen, digest, now)]


async def _observed(gateway: Gateway, command: InstallRelease, ended: Ended, began_at: datetime) -> InstallObserved:
    async with gateway.unit() as unit:
        known = store.digests(unit.tx)
    active = ended.active
    seconds = (datetime.now(UTC) - began_at).total_seconds()
    _log.info("%s: %s %s", command.device, ended.verdict.outcome, ended.verdict.detail)
    metrics.INSTALLS.labels(ended.verdict.outcome).observe(seconds)
    return InstallObserved(
        project=command.project,
        rollout_id=command.rollout_id,
        device=command.device,
        gateway=gateway.config.gateway,
        outcome=ended.verdict.outcome,
        wanted=command.digest,
        observed=known.get(active.image_hash) if active else None,
        observed_hash=active.image_hash if active else "",
        confirmed=active is not None and active.confirmed,
        fencing_token=command.fencing_token,
        seconds=seconds,
        detail=ended.verdict.detail,
    )
