"""One virtual board: flash, bootloader, running firmware, sensor, and the ways it can fail."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path

from smp.image_management import IMG_MGMT_ERR, ImageState

from device_gateway.protocol import EdgeloopError
from device_gateway.virtual.bootloader import Bootloader, NothingBootableError, Verify
from device_gateway.virtual.flash import SECTOR_BYTES, Area, FileFlash, PowerCutError
from device_gateway.virtual.models import Models
from device_gateway.virtual.sensor import Sensor
from device_gateway.virtual.slots import ImageRefusedError, Slots
from device_gateway.virtual.smp_server import Body, InferenceRefusedError, SmpServer
from device_gateway.virtual.telemetry import TelemetryLog
from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.mcuboot_image import McubootImage
from shared.events.lab import BoardClass
from shared.releases.histograms import quantise
from shared.releases.release import Quantisation

_logger = logging.getLogger(__name__)
_RESET_DELAY_S = (0.1, 0.25)
_HANG_S = 5.0
_WATCHDOG_S = 0.3
"""How long firmware that crashed in trial takes until its watchdog resets it."""


class Power(StrEnum):
    """Whether the board answers."""

    OFF = "off"
    ON = "on"
    HUNG = "hung"


class Fault(StrEnum):
    """What can be made to go wrong."""

    POWER_CUT = "power-cut"
    HANG = "hang"
    REVERT_NEXT = "revert-next"


def _started(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """Start a task whose failure is said when it happens."""

    def say(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("%s failed", name, exc_info=error)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(say)
    return task


class VirtualBoard:
    """A board that boots from its flash and answers SMP frames while it is on."""

    def __init__(self, board: ImageBoard, directory: Path, *, verify: Verify, models: Models, sensor: Sensor) -> None:
        """Args: directory: where its flash and counters are kept."""
        name = sensor.device
        self.name = name
        self.board = board
        self.power = Power.OFF
        self.running: McubootImage | None = None
        self.flash = FileFlash(directory, board.slot_bytes)
        self._image = b""
        self._verify = verify
        self._models = models
        self._sensor = sensor
        self._directory = directory
        self._slots = Slots(self.flash, verify, directory / "upload.json")
        self._telemetry = TelemetryLog(directory / "telemetry-sequence")
        self._server = SmpServer(self)
        self._one_at_a_time = asyncio.Lock()
        self._crash_in_trial = False
        self._halted = False
        self._outage_s = _RESET_DELAY_S[0]
        self._reset_task: asyncio.Task[None] | None = None
        self._play_task: asyncio.Task[None] | None = None
        # Spreads resets; nothing is secret about it.
        self._random = random.Random(name)  # noqa: S311

    @property
    def is_blank(self) -> bool:
        """Whether no firmware was ever written."""
        return self._slots.image_in(Area.SLOT0) is None

    @property
    def is_trial(self) -> bool:
        """Whether the running image is unconfirmed."""
        return self._slots.is_trial

    def program(self, image: bytes) -> None:
        """Write `image` to the primary slot, as a factory's programmer does."""
        for offset in range(0, len(image), SECTOR_BYTES):
            self.flash.erase(Area.SLOT0, offset // SECTOR_BYTES)
            self.flash.write(Area.SLOT0, offset, image[offset : offset + SECTOR_BYTES])

    def start(self) -> None:
        """Switch on."""
        self._boot()
        self._play_task = _started(self._play(), f"sensor of {self.name}")

    async def stop(self) -> None:
        """Switch off and free everything."""
        self.power = Power.OFF
        for task in (self._reset_task, self._play_task):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._telemetry.close_report()
        self.flash.close()

    async def receive(self, frame: bytes, reply: Callable[[bytes], None]) -> None:
        """Handle a datagram; requests wait for each other, as they do for a board's one SMP thread."""
        async with self._one_at_a_time:
            if self.power is not Power.ON:
                return
            try:
                response = await self._server.answer(frame)
            except PowerCutError:
                self._cut_power()
                return
        if response is not None:
            reply(response)

    # What the SMP server asks of the firmware.

    def image_states(self) -> list[ImageState]:
        """List the slots."""
        return self._slots.states()

    def set_image_state(self, image_hash: bytes | None, *, confirm: bool) -> None:
        """Mark an image for test, or confirm."""
        if image_hash is None:
            self._slots.confirm()
        elif len(image_hash) != 32:
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_HASH)
        else:
            self._slots.mark(image_hash.hex(), permanent=confirm)

    def upload(self, offset: int, data: bytes, *, length: int | None, sha: bytes | None) -> tuple[int, bool | None]:
        """Take a chunk of an image."""
        return self._slots.upload(offset, data, length=length, sha=sha)

    def schedule_reset(self) -> None:
        """Reset after the answer is out."""
        self._reset_after(self._random.uniform(*_RESET_DELAY_S))

    def info(self) -> Body:
        """Say who this is."""
        running = self._running_image()
        return {
            "board": self.board.name,
            "board_class": BoardClass.VIRTUAL.value,
            "hash": bytes.fromhex(running.image_hash),
            "model": running.model_digest is not None,
        }

    async def infer(self, tensor: bytes) -> bytes:
        """Run the model on an int8 tensor."""
        running = self._running_image()
        if running.model_digest is None:
            raise InferenceRefusedError(EdgeloopError.NO_MODEL)
        try:
            info = await self._models.info(self._image, running.image_hash, self.board)
            if len(tensor) != info.input_bytes:
                raise InferenceRefusedError(EdgeloopError.WRONG_LENGTH)
            return await self._models.infer(self._image, running.image_hash, self.board, tensor)
        except EmulationError as error:
            self._fault(error)
            raise InferenceRefusedError(EdgeloopError.FAULT) from error

    def telemetry(self, after: int) -> Body:
        """Return the report behind `after`."""
        found = self._telemetry.read(after)
        if found is None:
            return {}
        image_hash, report, more = found
        return {"hash": bytes.fromhex(image_hash), "report": report.SerializeToString(), "more": more}

    # What happens to a board.

    def inject(self, fault: Fault, *, seconds: float | None = None, operations: int | None = None) -> None:
        """Make something go wrong.

        Args:
            fault: What.
            seconds: How long a hang lasts (else 5 s), or the power is away (else a moment).
            operations: Cut the power in the middle of the flash operation after this many, instead of now.
        """
        match fault:
            case Fault.REVERT_NEXT:
                self._crash_in_trial = True
            case Fault.HANG:
                self.power = Power.HUNG
                self._reset_after(_HANG_S if seconds is None else seconds)
            case Fault.POWER_CUT:
                self._outage_s = _RESET_DELAY_S[0] if seconds is None else seconds
                if operations is None:
                    self._cut_power()
                else:
                    self.flash.cut_after = operations

    def _cut_power(self) -> None:
        _logger.info("%s: power cut", self.name)
        self.power = Power.OFF
        self._telemetry.lose()
        self._reset_after(self._outage_s)

    def _reset_after(self, delay_s: float) -> None:
        if self._reset_task is not None and self._reset_task is not asyncio.current_task():
            self._reset_task.cancel()
        self._reset_task = _started(self._reset(delay_s), f"reset of {self.name}")

    async def _reset(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self.power = Power.OFF
        self._telemetry.close_report()
        # Not in the middle of a request: its flash operations are one step for everybody else.
        async with self._one_at_a_time:
            self._boot()

    def _boot(self) -> None:
        """Run the bootloader, and again after every power cut in the middle of it."""
        while True:
            try:
                self.running = Bootloader(self.flash, self._verify).boot()
                break
            except PowerCutError:
                continue
            except NothingBootableError as error:
                raise NothingBootableError(
                    f"{self._directory}: {error}. If the release key was replaced, bring the old one back; "
                    "to start from the factory, remove the directory"
                ) from error
        self._image = self.flash.read(Area.SLOT0, 0, self.running.size_bytes)
        self._slots = Slots(self.flash, self._verify, self._directory / "upload.json")
        self.power = Power.ON
        self._halted = False
        _logger.info(
            "%s: booted %s (%s)", self.name, self.running.image_hash[:12], "trial" if self.is_trial else "confirmed"
        )
        if self.is_trial and self._crash_in_trial:
            self._crash_in_trial = False
            self.power = Power.HUNG
            self._reset_after(_WATCHDOG_S)

    def _fault(self, error: EmulationError) -> None:
        """Firmware crashed: in trial its watchdog resets it, which reverts it."""
        _logger.warning("%s: firmware fault: %s", self.name, error)
        self._halted = True
        if self.is_trial:
            self._reset_after(_WATCHDOG_S)

    def _running_image(self) -> McubootImage:
        if self.running is None:
            raise InferenceRefusedError(EdgeloopError.UNKNOWN)
        return self.running

    async def _play(self) -> None:
        """Feed windows to the model at the sensor's pace; what is late is skipped, never queued."""
        await asyncio.sleep(self._random.uniform(0, self._sensor.period_s))
        while True:
            await asyncio.sleep(self._sensor.period_s)
            try:
                await self._sense()
            except EmulationError as error:
                self._fault(error)

    async def _sense(self) -> None:
        running, image = self.running, self._image
        if self._halted or self.power is not Power.ON or running is None or running.model_digest is None:
            return
        info = await self._models.info(image, running.image_hash, self.board)
        sample = self._sensor.next_window()
        if sample is None:
            return
        environment, window = sample
        q = quantise(window.x, Quantisation(scale=info.input_scale, zero_point=info.input_zero_point))
        if q.size != info.input_bytes:
            _logger.warning(
                "%s: the world's windows have %d values, the model takes %d", self.name, q.size, info.input_bytes
            )
            self._halted = True
            return
        output = await self._models.infer(image, running.image_hash, self.board, q.tobytes())
        if self.running is not running or self.power is not Power.ON:
            return  # Reset in the middle: nobody remembers this one.
        predicted = self._telemetry.observe(running.image_hash, info, q, output)
        self._sensor.score(environment, running.image_hash, correct=predicted == window.label)
