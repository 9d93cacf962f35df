"""Runs firmware images on QEMU's MPS2 machines, where ``qemu-system-arm`` is installed.

QEMU's clock counts instructions (`-icount`), so what the firmware's timer says is the same in every run.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from functools import cache
from pathlib import Path

from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.dut import READY, DutBoard
from shared.emulation.mcuboot_image import read_image

_PROGRAM = "qemu-system-arm"
_DEFAULT_TIMEOUT_S = 60.0
# Ends QEMU when this process is gone, even after SIGKILL: its pipe then reads as closed.
# It ends with QEMU, so that nothing holds the console's other end open then.
_KEEPER = 'exec 9<&0; "$@" </dev/null 9<&- & q=$!; echo $q; (read _ <&9; kill -9 $q) & w=$!; wait $q; kill $w'
_LOWEST_DESCRIPTOR = 10


class EmulatorMissingError(EmulationError):
    """QEMU is not installed."""


def boot_qemu(image: bytes, board: ImageBoard, *, timeout_s: float = _DEFAULT_TIMEOUT_S) -> DutBoard:
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
    if shutil.which(_PROGRAM) is None:
        raise EmulatorMissingError(f"{_PROGRAM} is not installed; `apt-get install qemu-system-arm` gets it")
    console = _QemuConsole(image, board, timeout_s)
    try:
        console.exchange(b"", 1)
        return DutBoard(f"qemu {_version()}", console, timer_hz=board.peripheral_hz)
    except BaseException:
        console.close()
        raise


@cache
def _version() -> str:
    said = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed
    found = re.search(r"version (\S+)", said)
    return found[1] if found else "unknown"


class _QemuConsole:
    def __init__(self, image: bytes, board: ImageBoard, timeout_s: float) -> None:
        parsed = read_image(image)
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="edgeloop-qemu-")
        folder = Path(self._folder.name)
        (folder / "vectors.bin").write_bytes(parsed.payload[:8])
        (folder / "slot.bin").write_bytes(image[: parsed.size_bytes])
        self._socket, theirs = socket.socketpair()
        # Descriptors below 10 are the shell's own.
        descriptor = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _LOWEST_DESCRIPTOR)
        with os.fdopen(descriptor, "rb", 0), theirs, (folder / "stderr").open("wb") as stderr:
            self._keeper = subprocess.Popen(  # noqa: S603 - a fixed command on files that were just written
                ["/bin/sh", "-c", _KEEPER, "sh", *_command(board, folder, descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=(descriptor,),
            )
        assert self._keeper.stdout is not None
        self._pid = int(self._keeper.stdout.readline())
        self._finish = weakref.finalize(self, _end, self._keeper, self._pid, self._socket, self._folder)

    def exchange(self, request: bytes, answers: int) -> bytes:
        if not self._finish.alive:
            raise EmulationError("the board was closed")
        self._signal(signal.SIGCONT)
        try:
            return self._converse(request, answers)
        finally:
            # The firmware polls its UART: an idle board would keep a core of this machine busy.
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        self._finish()

    def _converse(self, request: bytes, answers: int) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        answer = bytearray()
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(request)
            while answer.count(READY) < answers:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(65536)
                if not part:
                    raise EmulationError(f"QEMU ended: {self._last_words()}")
                answer += part
                _raise_fault(answer)
        except TimeoutError as error:
            said = bytes(answer[-80:]).decode("ascii", "replace").strip() or "nothing"
            raise EmulationError(
                f"the firmware hung: not ready after {self._timeout_s:g} s; it said: {said}"
            ) from error
        except OSError as error:
            raise EmulationError(f"QEMU ended ({error}): {self._last_words()}") from error
        return bytes(answer)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _last_words(self) -> str:
        lines = Path(self._folder.name, "stderr").read_text("utf-8", "replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "it gave no reason"


def _command(board: ImageBoard, folder: Path, descriptor: int) -> list[str]:
    return [
        _PROGRAM,
        *("-M", board.emulation.qemu_machine, "-cpu", board.emulation.qemu_cpu),
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
        *("-icount", "shift=6,align=off,sleep=off"),
        # The core starts where MCUboot would be: a vector table that leads into the slot.
        *("-device", f"loader,file={folder / 'vectors.bin'},addr={board.emulation.reset_address:#x},force-raw=on"),
        *("-device", f"loader,file={folder / 'slot.bin'},addr={board.slot_address:#x},force-raw=on"),
        *("-chardev", f"socket,id=console,fd={descriptor}", "-serial", "chardev:console"),
    ]


def _raise_fault(answer: bytearray) -> None:
    found = re.search(rb"^e-\[hardfault ([^\r\n]*)\]\r\n", answer, re.MULTILINE)
    if found:
        raise EmulationError(f"the firmware faulted at {found[1].decode('ascii', 'replace')}")


def _end(
    keeper: "subprocess.Popen[bytes]", pid: int, console: socket.socket, folder: "tempfile.TemporaryDirectory[str]"
) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for stream in (keeper.stdin, keeper.stdout):
        if stream is not None:
            stream.close()
    keeper.wait()
    console.close()
    folder.cleanup()
