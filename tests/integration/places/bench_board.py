"""A board on the bench: real firmware on QEMU behind a TCP port that a test can spoil, flash through and pull out."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from shared.boards import image_board
from shared.emulation.mcuboot_image import read_image
from tests.integration.places.gesture_work import BOARD

FLASH_SCRIPT = """\
import socket, sys
image = open(sys.argv[1], "rb").read()
with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as station:
    print("writing", len(image), "bytes", flush=True)
    station.sendall(image)
    station.shutdown(socket.SHUT_WR)
    sys.exit(0 if station.recv(9) == b"written" else "the board went away")
"""
"""What a flash program is here: it hands the image to the board's flash station."""


class BenchBoard:
    """Real firmware; what comes and goes is written down, and may be changed on its way."""

    def __init__(self, folder: Path, image: bytes) -> None:
        self._folder, self._board = folder, image_board(BOARD)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._station = socket.create_server(("127.0.0.1", 0))
        self.port, self.flash_port = (end.getsockname()[1] for end in (self._listening, self._station))
        self.arrived = bytearray()
        self.flashed: list[bytes] = []
        self.back: Callable[[bytes], bytes] = bytes
        """Changes what it says, whole lines at a time."""
        self.before: Callable[[bytes], None] = lambda _data: None
        """Called with what is about to reach the board."""
        self.pulled_while_flashing = False
        self._qemu: subprocess.Popen[bytes] | None = None
        self._power_on(image)
        for serve in (self._serve, self._flash):
            threading.Thread(target=serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"socket://127.0.0.1:{self.port}"

    def _power_on(self, image: bytes) -> None:
        vectors, slot, self._console = (self._folder / name for name in ("vectors.bin", "slot.bin", "console"))
        self._monitor = self._folder / "monitor"
        vectors.write_bytes(read_image(image).payload[:8])
        slot.write_bytes(image)
        emulation = self._board.emulation
        command = [
            *("qemu-system-arm", "-M", emulation.qemu_machine, "-cpu", emulation.qemu_cpu, "-display", "none"),
            *("-icount", "shift=6,align=off,sleep=off"),
            *("-device", f"loader,file={vectors},addr={emulation.reset_address:#x},force-raw=on"),
            *("-device", f"loader,file={slot},addr={self._board.slot_address:#x},force-raw=on"),
            *("-serial", f"unix:{self._console},server=on,wait=off"),
            *("-monitor", f"unix:{self._monitor},server=on,wait=off"),
        ]
        self._qemu = subprocess.Popen(command)

    def reset(self) -> None:
        """Pull its reset line."""
        self._tell(b"system_reset")

    def hang(self) -> None:
        """Stop its clock."""
        self._tell(b"stop")

    def _tell(self, command: bytes) -> None:
        with closing(_connected(self._monitor)) as monitor:
            monitor.sendall(command + b"\n")
            said = b""
            while said.count(b"(qemu)") < 2:
                said += monitor.recv(4096)

    def pull_out(self) -> None:
        """Take it off the bench: nothing listens there any more."""
        for end in (self._listening, self._station):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._power_off()

    close = pull_out

    def _power_off(self) -> None:
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                host, _ = self._listening.accept()
                with closing(host), closing(_connected(self._console)) as device:
                    back = threading.Thread(target=self._pump_back, args=(device, host), daemon=True)
                    back.start()
                    with suppress(OSError):
                        while data := host.recv(4096):
                            self.before(data)
                            self.arrived += data
                            device.sendall(data)
                    with suppress(OSError):
                        device.shutdown(socket.SHUT_RDWR)
                    back.join()

    def _pump_back(self, device: socket.socket, host: socket.socket) -> None:
        with suppress(OSError):
            begun = b""
            while data := device.recv(4096):
                lines, end, begun = (begun + data).rpartition(b"\n")
                host.sendall(self.back(lines + end))
            host.shutdown(socket.SHUT_RDWR)

    def _flash(self) -> None:
        with suppress(OSError):
            while True:
                programmer, _ = self._station.accept()
                with closing(programmer):
                    image = b""
                    while part := programmer.recv(4096):
                        image += part
                        if self.pulled_while_flashing:
                            self.pull_out()
                            return
                    self.flashed.append(image)
                    self._power_off()
                    self._power_on(image)
                    programmer.sendall(b"written")


def _connected(path: Path) -> socket.socket:
    deadline = time.monotonic() + 60
    while True:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(str(path))
        except OSError:
            end.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return end
