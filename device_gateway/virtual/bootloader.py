"""MCUboot's two-slot semantics: test, swap, trial, confirm or revert, resumable after a power cut at any operation.

Every decision is a function of the two trailers alone (`decide`). An intent is written before its effect and is
complete only with its magic, which is written last; a trailer is invalidated (bits cleared) before it is erased; every
step of a swap can be repeated until its status byte is written. So whatever reset comes when, evaluating the table
again goes on where the last one stopped.

Source: MCUboot, docs/design.md, "Image trailer", "Swap status" and "Reset recovery".
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from device_gateway.virtual.flash import ERASED, SECTOR_BYTES, Area, Flash, sectors_for
from shared.emulation.mcuboot_image import McubootImage

MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
_SET = b"\x01"
# Offsets in a trailer: the fields first, the swap's status bytes behind them.
_MAGIC, _SWAP_TYPE, _SWAP_SECTORS, _COPY_DONE, _IMAGE_OK, _STATUS = 0, 16, 20, 24, 25, 32
_STEPS_PER_SECTOR = 3


class SwapType(IntEnum):
    """What a swap is for; MCUboot's numbers."""

    NONE = 1
    TEST = 2
    PERMANENT = 3
    REVERT = 4


class Decision(StrEnum):
    """What the bootloader does next."""

    BOOT = "boot"
    START_SWAP = "start-swap"
    RESUME_SWAP = "resume-swap"
    ORDER_REVERT = "order-revert"


@dataclass(frozen=True, slots=True)
class Trailer:
    """The write-once fields behind a slot."""

    valid: bool
    """Its magic is there: the other fields mean something."""
    swap_type: SwapType
    swap_sectors: int
    copy_done: bool
    image_ok: bool


class NothingBootableError(RuntimeError):
    """The primary slot holds no image that the bootloader accepts. The invariants make this impossible."""


Verify = Callable[[bytes], McubootImage | None]
"""Return the image at the start of a slot if its hash and signature are good."""


def decide(primary: Trailer, secondary: Trailer) -> Decision:
    """Return what the two trailers ask for, first match first."""
    if primary.valid and not primary.copy_done:
        return Decision.RESUME_SWAP
    if secondary.valid:
        return Decision.START_SWAP
    if primary.valid and not primary.image_ok:
        return Decision.ORDER_REVERT
    return Decision.BOOT


def read_trailer(flash: Flash, area: Area) -> Trailer:
    """Parse a trailer."""
    raw = flash.read(area, 0, _STATUS)
    swap_type = raw[_SWAP_TYPE]
    sectors = raw[_SWAP_SECTORS : _SWAP_SECTORS + 4]
    return Trailer(
        valid=raw[: len(MAGIC)] == MAGIC,
        swap_type=SwapType(swap_type) if swap_type in tuple(SwapType) else SwapType.NONE,
        swap_sectors=int.from_bytes(sectors, "little"),
        copy_done=raw[_COPY_DONE] == _SET[0],
        image_ok=raw[_IMAGE_OK] == _SET[0],
    )


def clear_trailer(flash: Flash, area: Area) -> None:
    """Erase a trailer; a torn erase must not leave a magic without its fields, so the magic goes first."""
    if flash.read(area, _MAGIC, len(MAGIC)).count(ERASED) != len(MAGIC):
        flash.write(area, _MAGIC, bytes(len(MAGIC)))
    flash.erase(area, 0)


def write_intent(flash: Flash, area: Area, swap_type: SwapType, sectors: int = 0) -> None:
    """Order a swap: the fields, then the magic that makes them count."""
    clear_trailer(flash, area)
    flash.write(area, _SWAP_TYPE, bytes([swap_type]))
    flash.write(area, _SWAP_SECTORS, sectors.to_bytes(4, "little"))
    flash.write(area, _MAGIC, MAGIC)


def set_image_ok(flash: Flash) -> None:
    """Confirm the running image."""
    flash.write(Area.TRAILER0, _IMAGE_OK, _SET)


class Bootloader:
    """Runs at every reset."""

    def __init__(self, flash: Flash, verify: Verify) -> None:
        self._flash = flash
        self._verify = verify

    def boot(self) -> McubootImage:
        """Bring the slots to rest and return the verified image that runs.

        Raises:
            PowerCutError: the power went again; the next boot goes on.
            NothingBootableError: there is no image to run.
        """
        flash = self._flash
        while True:
            primary, secondary = read_trailer(flash, Area.TRAILER0), read_trailer(flash, Area.TRAILER1)
            match decide(primary, secondary):
                case Decision.RESUME_SWAP:
                    self._swap(primary)
                    break  # A tested image gets this one run before a reset reverts it.
                case Decision.START_SWAP:
                    self._start_swap(secondary.swap_type)
                case Decision.ORDER_REVERT if self._verify(flash.read(Area.SLOT1)) is not None:
                    write_intent(flash, Area.TRAILER1, SwapType.REVERT)
                case Decision.ORDER_REVERT | Decision.BOOT:
                    break  # Also a trial with nothing to go back to: MCUboot stays in it.
        running = self._verify(flash.read(Area.SLOT0))
        if running is None:
            raise NothingBootableError("slot 0 holds no image with a good hash and signature")
        return running

    def _start_swap(self, swap_type: SwapType) -> None:
        flash = self._flash
        incoming = self._verify(flash.read(Area.SLOT1))
        if incoming is None:
            # Refused: the order and the image's header go, the running image stays.
            clear_trailer(flash, Area.TRAILER1)
            flash.erase(Area.SLOT1, 0)
            return
        outgoing = self._verify(flash.read(Area.SLOT0))
        length = max(image.size_bytes for image in (incoming, outgoing) if image is not None)
        write_intent(flash, Area.TRAILER0, swap_type, sectors_for(length))

    def _swap(self, intent: Trailer) -> None:
        flash = self._flash
        steps = intent.swap_sectors * _STEPS_PER_SECTOR
        status = flash.read(Area.TRAILER0, _STATUS, steps)
        done = next((index for index, byte in enumerate(status) if byte == ERASED), steps)
        for step in range(done, steps):
            self._swap_step(*divmod(step, _STEPS_PER_SECTOR))
            flash.write(Area.TRAILER0, _STATUS + step, _SET)
        clear_trailer(flash, Area.TRAILER1)
        if intent.swap_type is not SwapType.TEST:
            set_image_ok(flash)
        flash.write(Area.TRAILER0, _COPY_DONE, _SET)

    def _swap_step(self, sector: int, step: int) -> None:
        """Copy one way of the triangle. Its source is intact until the next step's status is written."""
        offset = sector * SECTOR_BYTES
        source, source_offset, target, target_offset = (
            (Area.SLOT1, offset, Area.SCRATCH, 0),
            (Area.SLOT0, offset, Area.SLOT1, offset),
            (Area.SCRATCH, 0, Area.SLOT0, offset),
        )[step]
        self._flash.erase(target, target_offset // SECTOR_BYTES)
        self._flash.write(target, target_offset, self._flash.read(source, source_offset, SECTOR_BYTES))
