"""Runs firmware images on QEMU's MPS2 machines, where ``qemu-system-arm`` is installed.

QEMU's clock counts instructions (`-icount`), so what the firmware's timer says is the same in every run.
"""

import fcntl
import re
import subprocess
import termios
from array import array
from functools import cache

from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.conversation import Conversation, drain
from shared.emulation.dut import EmulatedDut
from shared.emulation.mcuboot_image import read_image
from shared.emulation.qemu_process import PROGRAM, EmulatorMissingError, QemuProcess, require_qemu
from shared.emulation.qmp import Qmp

__all__ = ("EmulatorMissingError", "boot_qemu")

_DEFAULT_TIMEOUT_S = 60.0
_ERASED = b"\xff"


def boot_qemu(image: bytes, board: ImageBoard, *, timeout_s: float = _DEFAULT_TIMEOUT_S) -> EmulatedDut:
    """Boot a signed image. Memory is the machine's, larger than the board's: use Unicorn to find overflows.

    Args:
        image: the whole MCUboot image, header included.
        board: names the machine, and where the slot is.
        timeout_s: wall-clock limit of every exchange; what takes longer counts as a hang.

    Raises:
        EmulatorMissingError: QEMU is not installed.
        ImageFormatError: the image is damaged.
        EmulationError: the firmware faulted or hung before it was ready.
    """
    require_qemu()
    console = _QemuConsole(image, board, timeout_s)
    try:
        console.power_on()
        return EmulatedDut(f"qemu {_version()}", console, timer_hz=board.peripheral_hz)
    except BaseException:
        console.close()
        raise


@cache
def _version() -> str:
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed
    found = re.search(r"version (\S+)", said)
    return found[1] if found else "unknown"


class _QemuConsole:
    def __init__(self, image: bytes, board: ImageBoard, timeout_s: float) -> None:
        self._board = board
        self._timeout_s = timeout_s
        self._flash = image[: read_image(image).size_bytes].ljust(board.slot_bytes, _ERASED)
        self._closed = False
        self._talk = Conversation("QEMU", timeout_s)
        self._qemu: QemuProcess | None = None

    def exchange(self, request: bytes, answers: int) -> bytes:
        qemu = self._powered()
        qemu.wake()
        try:
            return self._talk.exchange(qemu.console, qemu.sensor, request, answers, qemu.last_words)
        finally:
            qemu.sleep()

    def reset(self) -> None:
        qemu = self._powered()
        if self.flash() != self._flash or _on_its_way(qemu):
            # A reset of the machine loads the slot's file again, which takes back what the firmware wrote, and
            # hands the firmware what was meant for the one before.
            self.power_cut()
            self.power_on()
            return
        qemu.wake()
        for command in ("stop", "system_reset"):
            self._qmp.ask(command)
        drain(qemu.console)
        self._talk.forget()
        self._qmp.ask("cont")
        self.exchange(b"", 1)

    def hang(self) -> None:
        self._ask("stop")

    def resume(self) -> None:
        self._ask("cont")

    def power_cut(self) -> None:
        self._flash = self.flash()
        self._powered().close()
        self._qemu = None

    def power_on(self) -> None:
        if self._qemu is not None:
            raise EmulationError("the board has its supply already")
        vectors = read_image(self._flash).payload[:8]
        self._qemu = QemuProcess(vectors, self._flash, self._board)
        self._qmp = Qmp(self._qemu.monitor, self._timeout_s)
        self._talk.forget()
        self.exchange(b"", 1)

    def feed(self, data: bytes) -> None:
        self._talk.feed(data)

    def flash(self) -> bytes:
        if self._qemu is None:
            return self._flash
        file = self._powered().folder / "flash.bin"
        # Not pmemsave: the core's addresses are those of the catalogue.
        place = {"val": self._board.slot_address, "size": self._board.slot_bytes, "filename": str(file)}
        self._ask("memsave", place)
        return file.read_bytes()

    def close(self) -> None:
        self._closed = True
        if self._qemu is not None:
            self._qemu.close()

    def _powered(self) -> QemuProcess:
        if self._closed:
            raise EmulationError("the board was closed")
        if self._qemu is None:
            raise EmulationError("the board has no supply")
        return self._qemu

    def _ask(self, command: str, arguments: dict[str, object] | None = None) -> None:
        qemu = self._powered()
        qemu.wake()
        try:
            self._qmp.ask(command, arguments)
        finally:
            qemu.sleep()


def _on_its_way(qemu: QemuProcess) -> bool:
    """Whether the firmware has not read all that was sent."""
    unread = array("i", [0])
    for channel in (qemu.console, qemu.sensor):
        fcntl.ioctl(channel, termios.TIOCOUTQ, unread)
        if unread[0]:
            return True
    return False
