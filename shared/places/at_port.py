"""A board at a serial port of this machine, or of one that it reaches. It is asked who it is before it is flashed."""

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from shared.boards import ImageBoard
from shared.emulation.mcuboot_image import ImageFormatError, read_image
from shared.events.lab import BoardClass
from shared.lab.messages import OfferedBoard, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.mlperf_tiny import DutError
from shared.mlperf_tiny.serial_line import BAUD, SerialLine
from shared.places.flashing import FlashError
from shared.places.identity import dut_identity, same_board, usb_identity
from shared.places.port_dut import DutAtPort, GreetingCounter, outcome_of
from shared.places.procedure import run_procedure, workload_of
from shared.places.rig import Ended, Hear, NotAbleError, Order, RigError
from shared.procedures import Rig as Booting

T = TypeVar("T")

_THREADS: Final = 4
"""One reads, one writes; one that was cut off may still be about to notice."""
_LOOK_EVERY_S: Final = 30.0
"""Opening some ports resets the board, so one without a USB identity is not asked all the time."""
_BACK_POLL_S: Final = 0.25
_GONE: Final = frozenset({AttemptOutcome.DISAPPEARED, AttemptOutcome.LEASE_LOST})


class Flasher(Protocol):
    """Brings an image onto one board."""

    async def flash(self, image: bytes, hear: Hear) -> None:
        """Write it; raises FlashError."""

    async def stop(self) -> None:
        """End it at once, for certain."""


class PortRig:
    """One board at a port that pyserial opens. Whoever is let in has the port to themselves."""

    def __init__(
        self,
        name: str,
        board: ImageBoard,
        port: str,
        *,
        baud: int = BAUD,
        identity: str = "",
        flasher: Flasher | None = None,
        back_within_s: float = 15.0,
    ) -> None:
        """Take a port, and touch nothing yet.

        Args:
            name: of the board in the lab.
            board: what it is.
            port: pyserial URL.
            baud: of a real port.
            identity: of the only board that may hang there; empty: whichever does.
            flasher: how firmware comes onto it; None: it runs what it has.
            back_within_s: how long it may be away after it was flashed: some come back as a new USB device.
        """
        self._board, self._port, self._baud = board, port, baud
        self._pinned: Final = identity
        self._flasher: Final = flasher
        self._back_within_s: Final = back_within_s
        self._offered = OfferedBoard(name=name, board=board.name, board_class=BoardClass.PHYSICAL)
        self._threads: Final = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"port-{name}")
        self._line: SerialLine | None = None
        self._listening: asyncio.Task[None] | None = None
        self._opening: Final = threading.Lock()
        self._stops = 0
        """What was begun before the last one may not open the port any more."""
        self._look_again_s = -math.inf

    @property
    def offered(self) -> OfferedBoard:
        return self._offered

    async def look(self) -> None:
        found = usb_identity(self._port)
        now_s = asyncio.get_running_loop().time()
        if found is None:
            if now_s < self._look_again_s:
                return
            self._look_again_s = now_s + _LOOK_EVERY_S
            try:
                found = await self._ask_identity(_ignore)
            except RigError:
                found = ""
        self._seen(found)

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        case = workload_of(order, self._board)
        await self._require_identity(order.identity, hear)
        model = None
        if self._flasher is None:
            model = self._model_of(order.image)
        else:
            await self._flash(self._flasher, order.image, hear)
        reached(WorkState.RUNNING)
        greetings = GreetingCounter()
        line = await self._open(hear, greetings)

        def boot() -> DutAtPort:
            return DutAtPort(line, greetings, model=model)

        try:
            return await self._in_thread(lambda: run_procedure(order.procedure, case, Booting(boot, boot)))
        except DutError as error:
            raise RigError(outcome_of(error, greetings), f"{self._port}: {greetings}{error}") from error
        finally:
            await self._close()

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        if image is not None:
            if self._flasher is None:
                raise NotAbleError(self._no_way())
            await self._close()
            await self._require_identity(self._offered.identity, hear)
            await self._flash(self._flasher, image, hear)
        line = self._line
        if line is None:
            line = await self._open(hear)
            self._listening = asyncio.create_task(self._listen(line))
        try:
            if reset:
                await self._in_thread(line.pull_reset)
            await self._in_thread(lambda: line.write(write))
        except DutError as error:
            await self._close()
            raise RigError(outcome_of(error), str(error)) from error

    async def stop(self) -> None:
        with self._opening:
            self._stops += 1
        await self._close()
        if self._flasher is not None:
            await self._flasher.stop()

    # ---- the port --------------------------------------------------------------------------------------------------

    async def _open(self, hear: Hear, greetings: GreetingCounter | None = None) -> SerialLine:
        """Open the port for whoever holds the board now.

        Raises:
            RigError: it cannot be opened, or their time is over.
        """
        loop, turn = asyncio.get_running_loop(), self._stops

        def heard(data: bytes) -> None:
            if greetings is not None:
                greetings.hear(data)
            loop.call_soon_threadsafe(hear, data)

        def opened() -> SerialLine:
            line = SerialLine(self._port, baud=self._baud, hear=heard)
            # A thread goes on when its task is cancelled: what it opened then has to be closed here.
            with self._opening:
                if turn == self._stops:
                    self._line = line
                    return line
            line.close()
            raise RigError(AttemptOutcome.LEASE_LOST, f"{self._port} was opened after the lease had ended")

        try:
            return await self._in_thread(opened)
        except DutError as error:
            raise RigError(outcome_of(error), str(error)) from error

    async def _close(self) -> None:
        """Close the port. Whoever asks for it a second time waits for the first."""
        if (line := self._line) is not None:
            await self._in_thread(line.close)
            if self._line is line:
                self._line = None
        if self._listening is not None:
            await asyncio.wait([self._listening])
            self._listening = None

    async def _listen(self, line: SerialLine) -> None:
        try:
            while line is self._line:
                await self._in_thread(line.listen)
        except DutError:
            return  # Whoever touches it next is told.

    def _in_thread(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, function)

    # ---- who is there ----------------------------------------------------------------------------------------------

    def _seen(self, identity: str) -> None:
        self._offered = self._offered.model_copy(update={"identity": identity})

    async def _ask_identity(self, hear: Hear) -> str:
        greetings = GreetingCounter()
        line = await self._open(hear, greetings)
        try:
            return await self._in_thread(lambda: dut_identity(line))
        except DutError as error:
            raise RigError(outcome_of(error, greetings), f"{self._port}: {error}") from error
        finally:
            await self._close()

    async def _require_identity(self, wanted: str, hear: Hear) -> None:
        """Raise unless the board is the one that the work, and whoever set the place up, mean."""
        allowed = [identity for identity in (self._pinned, wanted) if identity]
        found = usb_identity(self._port)
        if found is None:
            try:
                found = await self._ask_identity(hear)
            except RigError as error:
                if allowed or self._flasher is None or error.outcome in _GONE:
                    raise
                return  # Nobody said who it must be, and its firmware is about to be replaced.
        self._seen(found)
        for identity in allowed:
            if not same_board(found, identity):
                raise RigError(
                    AttemptOutcome.SWAPPED,
                    f"{self._port}: found {found!r}, allowed is {identity!r}; nothing was written to it. Next: put the "
                    "board back, or give the new one a name of its own",
                )

    # ---- its firmware ----------------------------------------------------------------------------------------------

    async def _flash(self, flasher: Flasher, image: bytes, hear: Hear) -> None:
        try:
            await flasher.flash(image, hear)
        except FlashError as error:
            if await self._is_gone():
                said = f"{self._port} went away while the board was flashed: {error}"
                raise RigError(AttemptOutcome.DISAPPEARED, f"{said}. Next: look at its cable and supply") from error
            raise RigError(AttemptOutcome.LAB, f"{self._port}: {error}") from error
        deadline_s = asyncio.get_running_loop().time() + self._back_within_s
        while await self._is_gone():
            if asyncio.get_running_loop().time() > deadline_s:
                said = f"{self._port} did not come back within {self._back_within_s:g} s after the board was flashed"
                raise RigError(AttemptOutcome.DISAPPEARED, f"{said}. Next: press its reset, look at its cable")
            await asyncio.sleep(_BACK_POLL_S)

    async def _is_gone(self) -> bool:
        try:
            await self._open(_ignore)
        except RigError as error:
            if error.outcome is AttemptOutcome.DISAPPEARED:
                return True
            raise
        await self._close()
        return False

    def _model_of(self, image: bytes) -> str:
        """Return the model that must be on the board already, where there is no way to flash it."""
        try:
            model = read_image(image).model_digest
        except ImageFormatError as error:
            raise RigError(AttemptOutcome.LAB, str(error)) from error
        if model is None:
            raise NotAbleError(self._no_way())
        return model

    def _no_way(self) -> str:
        return (
            f"the place has no way to flash {self._offered.name}. Next: give it `flash` in gateway.yaml, or bring the "
            "image onto it by hand"
        )


def _ignore(_data: bytes) -> None:
    """What a board says while it is only asked who it is."""
