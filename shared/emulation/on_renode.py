"""Runs firmware images on Renode, where `renode` is on the PATH. Unproven: no Renode was at hand (see the package).

Its clock advances with instructions, at a speed at which the firmware's timer counts them.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import Final

from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.conversation import Conversation, drain
from shared.emulation.dut import INSTRUCTION_NS, EmulatedDut
from shared.emulation.mcuboot_image import read_image
from shared.emulation.qemu_process import EmulatorMissingError, end_kept, kept
from shared.emulation.renode.files import PLATFORM_FILE, SCRIPT_FILE, Load, Wiring, platform_of, script_of
from shared.emulation.renode.monitor import Monitor

PROGRAM: Final = "renode"
_FIRMWARE_FILE: Final = "firmware.bin"
_LOG_FILE: Final = "renode.log"
_DEFAULT_TIMEOUT_S: Final = 60.0
_MONITOR_S: Final = 60.0
"""Of a command, and until Renode listens: its runtime starts slowly."""
_LOOK_EVERY_S: Final = 0.05
_HOST: Final = "127.0.0.1"


def require_renode() -> None:
    """Raise EmulatorMissingError when Renode is not on the PATH."""
    if shutil.which(PROGRAM) is None:
        raise EmulatorMissingError(
            f"{PROGRAM} is not on the PATH, and in no package registry; its releases are at"
            " https://github.com/renode/renode/releases"
        )


def boot_renode(image: bytes, board: ImageBoard, *, timeout_s: float = _DEFAULT_TIMEOUT_S) -> EmulatedDut:
    """Boot a signed image.

    Args:
        image: the whole MCUboot image, header included.
        board: whose memory map the machine gets.
        timeout_s: wall-clock limit of every exchange; what takes longer counts as a hang.

    Raises:
        EmulatorMissingError: Renode is not installed.
        ImageFormatError: the image is damaged.
        EmulationError: Renode refused the machine, or the firmware faulted or hung before it was ready.
    """
    require_renode()
    console = _RenodeConsole(image, board, timeout_s)
    try:
        console.power_on()
        return EmulatedDut(PROGRAM, console, timer_hz=1_000_000_000 // INSTRUCTION_NS)
    except BaseException:
        console.close()
        raise


class RenodeProcess:
    """One Renode with one machine, whose UARTs are sockets. Its processes run between `wake` and `sleep` only."""

    def __init__(self, firmware: bytes, board: ImageBoard) -> None:
        """Start it, and make the machine, which does not run yet.

        Raises:
            EmulationError: Renode did not start, or refused the machine.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="edgeloop-renode-")
        self.folder = Path(self._temporary.name)
        monitor, console, sensor = _free_ports(3)
        load = Load(_FIRMWARE_FILE, board.slot_address, board.slot_address + read_image(firmware).header_bytes)
        (self.folder / _FIRMWARE_FILE).write_bytes(firmware)
        (self.folder / PLATFORM_FILE).write_text(platform_of(board), "utf-8")
        script = script_of(board, load, Wiring(console, sensor), start=False)
        (self.folder / SCRIPT_FILE).write_text(script, "utf-8")
        self._keeper = subprocess.Popen(  # noqa: S603 - a fixed command
            kept(["/bin/sh", "-c", f'exec "$@" >{_LOG_FILE} 2>&1', "sh", PROGRAM, "--plain", "--disable-xwt",
                  "--port", str(monitor)]),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        self.pid = int(self._keeper.stdout.readline())
        channels: list[socket.socket] = []
        self._finish = weakref.finalize(self, end_kept, self._keeper, self.pid, channels, self._temporary)
        try:
            channels.append(self._connected(monitor))
            self.monitor = Monitor(channels[0], _MONITOR_S)
            self.monitor.ask(f"include @{SCRIPT_FILE}")
            channels += [self._connected(port) for port in (console, sensor)]
            _, self.console, self.sensor = channels
        except BaseException:
            self.close()
            raise

    def wake(self) -> None:
        """Let the process run."""
        self._signal(signal.SIGCONT)

    def sleep(self) -> None:
        """Halt the process: firmware polls its UART, and an idle board would keep a core of this machine busy."""
        self._signal(signal.SIGSTOP)

    def last_words(self) -> str:
        """Return what Renode said at last."""
        log = self.folder / _LOG_FILE
        lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
        return " | ".join(lines[-3:]) or "it gave no reason"

    def close(self) -> None:
        """Kill it, and free what it held."""
        self._finish()

    def _connected(self, port: int) -> socket.socket:
        deadline = time.monotonic() + _MONITOR_S
        while True:
            try:
                return socket.create_connection((_HOST, port))
            except ConnectionRefusedError as error:
                if self._keeper.poll() is not None or time.monotonic() > deadline:
                    raise EmulationError(f"Renode does not listen at port {port}: {self.last_words()}") from error
                time.sleep(_LOOK_EVERY_S)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class _RenodeConsole:
    def __init__(self, image: bytes, board: ImageBoard, timeout_s: float) -> None:
        self._board = board
        # Firmware does not write to its slot: each boot loads the same.
        self._flash = image[: read_image(image).size_bytes]
        self._talk = Conversation("Renode", timeout_s)
        self._closed = False
        self._renode: RenodeProcess | None = None

    def exchange(self, request: bytes, answers: int) -> bytes:
        renode = self._powered()
        renode.wake()
        try:
            return self._talk.exchange(renode.console, renode.sensor, request, answers, renode.last_words)
        finally:
            renode.sleep()

    def reset(self) -> None:
        self._ask("pause")
        self._ask("machine Reset")
        drain(self._powered().console)
        self._talk.forget()
        self._ask("start")
        self.exchange(b"", 1)

    def hang(self) -> None:
        self._ask("pause")

    def resume(self) -> None:
        self._ask("start")

    def power_cut(self) -> None:
        self._powered().close()
        self._renode = None

    def power_on(self) -> None:
        if self._renode is not None:
            raise EmulationError("the board has its supply already")
        self._renode = RenodeProcess(self._flash, self._board)
        self._talk.forget()
        self._ask("start")
        self.exchange(b"", 1)

    def feed(self, data: bytes) -> None:
        self._talk.feed(data)

    def flash(self) -> bytes:
        return self._flash.ljust(self._board.slot_bytes, b"\xff")

    def close(self) -> None:
        self._closed = True
        if self._renode is not None:
            self._renode.close()

    def _powered(self) -> RenodeProcess:
        if self._closed:
            raise EmulationError("the board was closed")
        if self._renode is None:
            raise EmulationError("the board has no supply")
        return self._renode

    def _ask(self, command: str) -> None:
        renode = self._powered()
        renode.wake()
        try:
            renode.monitor.ask(command)
        finally:
            renode.sleep()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((_HOST, 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
