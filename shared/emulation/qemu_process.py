"""QEMU as a process: console, second UART and monitor, a pair of sockets each, and an end that comes for certain."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from shared.boards import ImageBoard
from shared.emulation import EmulationError

PROGRAM = "qemu-system-arm"
# Ends QEMU when this process is gone, even after SIGKILL: its pipe then reads as closed.
# It ends with QEMU, so that nothing holds the console's other end open then.
_KEEPER = 'exec 9<&0; "$@" </dev/null 9<&- & q=$!; echo $q; (read _ <&9; kill -9 $q) & w=$!; wait $q; kill $w'
_LOWEST_DESCRIPTOR = 10
_CHANNELS = ("console", "sensor", "monitor")


class EmulatorMissingError(EmulationError):
    """QEMU is not installed."""


def require_qemu() -> None:
    """Raise EmulatorMissingError when QEMU is not installed."""
    if shutil.which(PROGRAM) is None:
        raise EmulatorMissingError(f"{PROGRAM} is not installed; `apt-get install qemu-system-arm` gets it")


class QemuProcess:
    """One QEMU. It runs between `wake` and `sleep` only."""

    def __init__(self, vectors: bytes, flash: bytes, board: ImageBoard) -> None:
        """Start QEMU, which must be installed.

        Args:
            vectors: the eight bytes that the core reads at reset.
            flash: the slot's content.
            board: names the machine, and where the slot is.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="edgeloop-qemu-")
        self.folder = Path(self._temporary.name)
        (self.folder / "vectors.bin").write_bytes(vectors)
        (self.folder / "slot.bin").write_bytes(flash)
        with contextlib.ExitStack() as theirs:
            ours, descriptors = [], []
            for _ in _CHANNELS:
                our_end, their_end = socket.socketpair()
                theirs.enter_context(their_end)
                # Descriptors below 10 are the shell's own.
                descriptor = fcntl.fcntl(their_end.fileno(), fcntl.F_DUPFD_CLOEXEC, _LOWEST_DESCRIPTOR)
                theirs.callback(os.close, descriptor)
                ours.append(our_end)
                descriptors.append(descriptor)
            stderr = theirs.enter_context((self.folder / "stderr").open("wb"))
            self._keeper = subprocess.Popen(  # noqa: S603 - a fixed command on files that were just written
                kept(_command(board, self.folder, descriptors)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=descriptors,
            )
        self.console, self.sensor, self.monitor = ours
        assert self._keeper.stdout is not None
        self.pid = int(self._keeper.stdout.readline())
        self._finish = weakref.finalize(self, end_kept, self._keeper, self.pid, ours, self._temporary)

    def wake(self) -> None:
        """Let the process run."""
        self._signal(signal.SIGCONT)

    def sleep(self) -> None:
        """Halt the process: firmware polls its UART, and an idle board would keep a core of this machine busy."""
        self._signal(signal.SIGSTOP)

    def last_words(self) -> str:
        """Return what QEMU said at last."""
        lines = (self.folder / "stderr").read_text("utf-8", "replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "it gave no reason"

    def close(self) -> None:
        """Kill it, and free what it held."""
        self._finish()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _command(board: ImageBoard, folder: Path, descriptors: Sequence[int]) -> list[str]:
    channels = zip(_CHANNELS, descriptors, strict=True)
    return [
        PROGRAM,
        *("-M", board.emulation.qemu_machine, "-cpu", board.emulation.qemu_cpu),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-icount", "shift=6,align=off,sleep=off"),
        # The core starts where MCUboot would be: a vector table that leads into the slot.
        *("-device", f"loader,file={folder / 'vectors.bin'},addr={board.emulation.reset_address:#x},force-raw=on"),
        *("-device", f"loader,file={folder / 'slot.bin'},addr={board.slot_address:#x},force-raw=on"),
        *(word for name, fd in channels for word in ("-chardev", f"socket,id={name},fd={fd}")),
        *("-serial", "chardev:console", "-serial", "chardev:sensor", "-mon", "chardev=monitor,mode=control"),
    ]


def kept(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command`, says its process id in a line, and kills it when its own input ends."""
    return ["/bin/sh", "-c", _KEEPER, "sh", *command]


def end_kept(
    keeper: "subprocess.Popen[bytes]",
    pid: int,
    channels: Sequence[socket.socket],
    folder: "tempfile.TemporaryDirectory[str]",
) -> None:
    """Kill what is kept and its keeper, and free what they held."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for stream in (keeper.stdin, keeper.stdout):
        if stream is not None:
            stream.close()
    keeper.wait()
    for channel in channels:
        channel.close()
    folder.cleanup()
