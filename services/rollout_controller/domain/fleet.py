"""What is known of each device, learnt from what gateways observe."""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.events import Digest
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome


@dataclass(frozen=True, slots=True)
class Image:
    """A firmware image as a board can be observed running it."""

    digest: Digest | None
    """The release it belongs to; none: firmware that Edgeloop did not send."""
    image_hash: str
    """SHA-256 as MCUboot reports it, hex."""
    version: str = ""

    def is_same(self, other: "Image | None") -> bool:
        """Compare what is observable; the version is only a label."""
        return other is not None and (self.digest, self.image_hash) == (other.digest, other.image_hash)


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a project's fleet."""

    name: str
    gateway: str
    board: str
    state: DeviceState
    confirmed: Image | None
    """What it was last observed running and confirmed."""
    previous: Image | None
    """What it ran before that: where a rollback leads when the device already runs the release."""
    observed_at: datetime
    """On the gateway's clock: orders what one gateway says."""
    joined_at: datetime
    """On the controller's clock: when it first heard of the device."""
    token: int = 0
    """The fencing token of the newest order."""

    def runs(self, image: Image) -> bool:
        """Tell whether the device was observed running `image`, confirmed, and has not been lost since."""
        return self.state is DeviceState.CONFIRMED and image.is_same(self.confirmed)


def learn_report(device: Device | None, report: DeviceReported, now: datetime) -> Device | None:
    """Return what is known after `report`; None when the report is older than what is known already."""
    if device is None:
        device = Device(
            report.device, report.gateway, report.board, report.state, None, None, report.observed_at, joined_at=now
        )
    elif report.observed_at < device.observed_at:
        return None
    device = replace(
        device, gateway=report.gateway, board=report.board, state=report.state, observed_at=report.observed_at
    )
    if report.state is not DeviceState.CONFIRMED:
        return device
    return _confirm(device, Image(report.digest, report.image_hash.lower(), report.version))


def learn_install(device: Device, observed: InstallObserved, at: datetime) -> Device:
    """Return what is known after the end of an order that the gateway saw at `at`."""
    if at < device.observed_at:
        return device
    if observed.outcome is InstallOutcome.LOST and not observed.observed_hash:
        return replace(device, state=DeviceState.LOST, observed_at=at)
    if not observed.confirmed or not observed.observed_hash:
        return device
    device = replace(device, gateway=observed.gateway, state=DeviceState.CONFIRMED, observed_at=at)
    return _confirm(device, Image(observed.observed, observed.observed_hash.lower()))


def _confirm(device: Device, image: Image) -> Device:
    if image.is_same(device.confirmed):
        return device
    return replace(device, confirmed=image, previous=device.confirmed)
