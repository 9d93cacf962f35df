"""What a gateway decides: the next step of an installation, and when a board's state is worth saying.

Every decision is made on what the board was just observed to be. So an order that is delivered again, after a crash of
the gateway, of the board or of both, goes on from wherever the board is.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from device_gateway.drivers import SlotState
from shared.events.device import DeviceState, InstallOutcome

MAX_RESETS = 3
MAX_UPLOADS = 3


@dataclass(frozen=True, slots=True)
class Order:
    """What an installation has to reach."""

    wanted: str
    """Hash of the image that must end up active and confirmed."""
    has_image: bool
    """Whether the bytes are at hand; else the image must be in the board's second slot."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What was already tried under this order. `trials` is stored before the reset that begins a trial."""

    trials: int = 0
    resets: int = 0
    uploads: int = 0
    smoke_tested: bool = False
    failure: str = ""
    """Why the image on trial must not stay."""


class Step(StrEnum):
    """What to do to the board next."""

    UPLOAD = "upload"
    MARK_FOR_TEST = "mark-for-test"
    BEGIN_TRIAL = "begin-trial"
    RESET = "reset"
    SMOKE_TEST = "smoke-test"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the order ends."""

    outcome: InstallOutcome
    detail: str = ""


def plan(order: Order, slots: tuple[SlotState, ...], progress: Progress) -> Step | Verdict:  # noqa: PLR0911 - a table
    """Return the next step towards `order`, or its end."""
    active = next((slot for slot in slots if slot.active), None)
    second = next((slot for slot in slots if not slot.active), None)
    if active is None:
        return Verdict(InstallOutcome.REFUSED, "the board lists no active image; it needs MCUboot with two slots")
    if active.image_hash == order.wanted:
        return _plan_wanted(active, progress)
    if progress.failure:
        return Verdict(InstallOutcome.REVERTED, progress.failure)
    if not active.confirmed or (second is not None and second.pending):
        return _plan_settling(order, second, progress)
    if progress.trials:
        return Verdict(
            InstallOutcome.REVERTED,
            "the board runs its old image again: the bootloader refused the new one, or it did not survive its trial",
        )
    if second is not None and second.image_hash == order.wanted:
        return Step.MARK_FOR_TEST
    return _plan_upload(order, second, progress)


def _plan_settling(order: Order, second: SlotState | None, progress: Progress) -> Step | Verdict:
    """Our own trial, or what another order left behind: a reset lets the bootloader settle it."""
    if progress.resets >= MAX_RESETS:
        return Verdict(
            InstallOutcome.REFUSED, f"the bootloader did not settle in {MAX_RESETS} resets; look at its console"
        )
    ours = second is not None and second.pending and second.image_hash == order.wanted
    return Step.BEGIN_TRIAL if ours else Step.RESET


def _plan_upload(order: Order, second: SlotState | None, progress: Progress) -> Step | Verdict:
    if not order.has_image:
        held = second.image_hash[:12] if second else "nothing"
        return Verdict(
            InstallOutcome.REFUSED,
            f"the order brings no image, and the second slot holds {held} instead of {order.wanted[:12]}; "
            "send the release that has it",
        )
    if progress.uploads >= MAX_UPLOADS:
        return Verdict(
            InstallOutcome.REFUSED, f"the board does not list the image after {MAX_UPLOADS} uploads; check its flash"
        )
    return Step.UPLOAD


def _plan_wanted(active: SlotState, progress: Progress) -> Step | Verdict:
    if active.confirmed:
        return Verdict(InstallOutcome.VERIFIED)
    if progress.failure:
        if progress.resets >= MAX_RESETS:
            return Verdict(InstallOutcome.LOST, f"{progress.failure}; and {MAX_RESETS} resets did not bring it back")
        return Step.RESET
    return Step.CONFIRM if progress.smoke_tested else Step.SMOKE_TEST


def after_step(progress: Progress, step: Step, failure: str = "") -> Progress:
    """Return the progress once `step` was tried; `failure` says why the image on trial must go."""
    match step:
        case Step.UPLOAD:
            return replace(progress, uploads=progress.uploads + 1)
        case Step.BEGIN_TRIAL:
            # Another boot of the image: what an earlier one proved does not count.
            return replace(progress, trials=progress.trials + 1, resets=progress.resets + 1, smoke_tested=False)
        case Step.RESET:
            return replace(progress, resets=progress.resets + 1, smoke_tested=False)
        case Step.SMOKE_TEST:
            return replace(progress, smoke_tested=not failure, failure=failure)
        case Step.CONFIRM if failure:
            return replace(progress, failure=failure)
    return progress


def smoke_failure(expected: bytes, answered: bytes) -> str:
    """Compare a board's output tensor with the reference's, bit by bit; empty when equal."""
    if expected == answered:
        return ""
    differing = sum(a != b for a, b in zip(expected, answered, strict=False)) + abs(len(expected) - len(answered))
    return (
        f"smoke test: {differing} of {len(expected)} output bytes differ from the reference "
        f"(answered {answered.hex()}, expected {expected.hex()})"
    )


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was last seen of a board, and last said."""

    state: DeviceState
    image_hash: str
    version: str
    answered_at: datetime
    said_at: datetime | None = None


def sight(
    before: Sighting | None, slots: tuple[SlotState, ...] | None, now: datetime, *, lost_after_s: float
) -> Sighting:
    """Take a look at a board into account: its slots, or None when it was silent."""
    active = next((slot for slot in slots or () if slot.active), None)
    if active is not None:
        return Sighting(
            state=DeviceState.CONFIRMED if active.confirmed else DeviceState.TRIAL,
            image_hash=active.image_hash,
            version=active.version,
            answered_at=now,
            said_at=before.said_at if before else None,
        )
    if before is None:
        # Never seen. It may be starting: its silence is said when it is time to say its state again.
        return Sighting(state=DeviceState.LOST, image_hash="", version="", answered_at=now, said_at=now)
    if (now - before.answered_at).total_seconds() >= lost_after_s:
        return replace(before, state=DeviceState.LOST)
    return before


def is_worth_saying(before: Sighting | None, after: Sighting, now: datetime, *, report_period_s: float) -> bool:
    """Tell whether a sighting is news, or old enough to be said again."""
    if before is None or after.said_at is None:
        return after.said_at is None
    changed = (before.state, before.image_hash) != (after.state, after.image_hash)
    return changed or (now - after.said_at).total_seconds() >= report_period_s
