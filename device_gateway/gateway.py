"""What the handlers and the background tasks work with, and the one way in which a board's state is reported."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from device_gateway.config import GatewayConfig, read_config
from device_gateway.domain import Sighting
from device_gateway.lab import serve_lab
from device_gateway.sessions import Session, open_sessions
from device_gateway.settings import Settings
from shared.artifacts.keys import PublicKey, load_public_key
from shared.events.device import DeviceReported
from shared.events.lab import BoardClass
from shared.runtime import Resources, Transaction
from shared.runtime.handlers import Emissions
from shared.telemetry import TelemetryBatch


class Unit(Protocol):
    """A transaction with what it has to say."""

    @property
    def tx(self) -> Transaction:
        """Where statements run."""

    @property
    def emit(self) -> Callable[[Emissions, UUID, UUID], None]:
        """Say payloads, with the cause of their ids and their run."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The handlers' dependencies."""

    settings: Settings
    config: GatewayConfig
    sessions: Mapping[str, Session]
    keys: Sequence[PublicKey]
    fetch: Callable[[str], Awaitable[bytes]]
    """Bytes by digest; raises BlobMissingError."""
    unit: Callable[[], AbstractAsyncContextManager[Unit]]
    publish: Callable[[TelemetryBatch], Awaitable[bool]]
    """Raises PublishError."""
    serve_lab: Callable[[], Awaitable[object]]
    """Answers for the boards of the lab, for ever."""

    def report(self, session: Session, seen: Sighting, digest: str | None, now: datetime) -> DeviceReported:
        """Return what to say of a board; one that never said how real it is counts as a real one."""
        return DeviceReported(
            project=self.config.project,
            device=session.entry.id,
            gateway=self.config.gateway,
            board=session.entry.board,
            board_class=session.board_class or BoardClass.PHYSICAL,
            state=seen.state,
            digest=digest,
            image_hash=seen.image_hash,
            version=seen.version,
            observed_at=now,
        )


@asynccontextmanager
async def open_gateway(settings: Settings, resources: Resources) -> AsyncIterator[Gateway]:
    """Read the configuration and open the sessions.

    Raises:
        ConfigError: gateway.yaml cannot be used.
        PublicKeyError: the release key cannot be read.
    """
    config = read_config(settings.gateway_config)
    sessions = open_sessions(config.devices)
    try:
        yield Gateway(
            settings=settings,
            config=config,
            sessions=sessions,
            keys=() if settings.verify_key is None else (load_public_key(settings.verify_key),),
            fetch=resources.blobs.get,
            unit=resources.unit,
            publish=resources.publisher.publish_telemetry,
            serve_lab=partial(serve_lab, config, resources.nc, resources.blobs.get),
        )
    finally:
        for session in sessions.values():
            await session.driver.close()
