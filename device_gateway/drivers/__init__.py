"""How the gateway speaks to boards: one small protocol, one module for each way.

A driver is not re-entrant: its `Session` gives one caller at a time the board.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from shared.boards import ImageBoard
from shared.events.lab import BoardClass
from shared.telemetry import DeviceReport


class DriverError(Exception):
    """The board could not do what it was asked."""


class DeviceSilentError(DriverError):
    """No answer in time: the board is off, resetting, gone, or the link is down."""


class DeviceBusyError(DriverError):
    """The board asks to come back later."""


class DeviceRefusedError(DriverError):
    """The board answered no."""

    def __init__(self, message: str, code: IntEnum | None = None) -> None:
        """Args: code: the protocol's own, where there is one."""
        super().__init__(message)
        self.code = code


class AddressError(ValueError):
    """An address that the driver cannot use."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the board says it is."""

    board: str
    """Name in the board catalogue; empty when the firmware is not ours and does not say."""
    board_class: BoardClass


@dataclass(frozen=True, slots=True)
class SlotState:
    """One image slot as the board reports it."""

    image_hash: str
    version: str
    """As in a release: ``major.minor.revision+build``."""
    active: bool = False
    confirmed: bool = False
    pending: bool = False


@dataclass(frozen=True, slots=True)
class ReadReport:
    """A telemetry report, and the image that ran while it was taken."""

    image_hash: str
    report: DeviceReport
    more: bool


class Driver(Protocol):
    """A way to one board. Every method raises DriverError, DeviceSilentError for silence."""

    async def identify(self) -> Identity:
        """Ask who it is."""

    async def read_state(self) -> tuple[SlotState, ...]:
        """List its image slots."""

    def upload(self, image: bytes) -> AsyncIterator[int]:
        """Write `image` to the second slot, resuming what was begun; yield how many bytes are there."""

    async def test(self, image_hash: str) -> None:
        """Mark an image of the second slot for one run at the next reset."""

    async def confirm(self, image_hash: str) -> None:
        """Keep the running image, which must be this one."""

    async def reset(self) -> None:
        """Restart the board; it answers again a moment later."""

    async def infer(self, tensor: bytes) -> bytes:
        """Run the model on one int8 tensor."""

    async def read_telemetry(self, after: int) -> ReadReport | None:
        """Return the first report behind sequence `after`, which the board may forget up to there."""

    async def close(self) -> None:
        """Let go of the link."""


MakeDriver = Callable[[str, ImageBoard], Driver]
"""From an address and the kind of board to a driver; raises AddressError."""


def drivers() -> Mapping[str, MakeDriver]:
    """Return every driver by its name in the configuration."""
    from device_gateway.drivers.smp_udp import SmpUdpDriver  # noqa: PLC0415 - only a gateway needs smpclient

    return {"smp-udp": SmpUdpDriver}
