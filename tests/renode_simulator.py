"""What `renode --plain --disable-xwt --port N` does as far as its documentation says, for machines with our firmware.

Its monitor speaks telnet: it negotiates, echoes, colours, and prompts with the machine's name. Its machine is Unicorn,
whose timer counts as Renode's would at the speed that the script sets. Run it as a program.
"""

import argparse
import re
import socket
import threading
from pathlib import Path
from typing import Any, ClassVar

from shared.boards import ImageBoard, image_board
from shared.emulation.on_unicorn import _UnicornConsole

BANNER = b"\xff\xfd\x00\xff\xfb\x01\xff\xfb\x03Renode, version 0 (simulated)\r\n\r\n"


class _Console(_UnicornConsole):
    """Keeps what the firmware says at boot, which the emulator's own users pass over."""

    greeting = b""

    def exchange(self, request: bytes, answers: int) -> bytes:
        said = super().exchange(request, answers)
        if answers == 1 and not request:
            self.greeting += said
        return said


class Machine:
    """One board, stopped until `start`. Bytes that arrive meanwhile wait."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.board: ImageBoard = image_board(name)
        self.lock = threading.Lock()
        self.terminals: dict[str, socket.socket] = {}
        self.clients: dict[str, socket.socket] = {}
        self.reached = threading.Event()
        """Somebody is at the console. Renode keeps what is said before; here the start waits."""
        self.waiting: dict[str, bytearray] = {"console": bytearray(), "sensor": bytearray()}
        self.settings: dict[str, str] = {}
        self.image: bytes | None = None
        self.running = False
        self._console: Any = None

    def listen(self, uart: str, server: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(uart, server), daemon=True).start()

    def start(self) -> None:
        with self.lock:
            self.running = True
            self._run()

    def pause(self) -> None:
        with self.lock:
            self.running = False

    def reset(self) -> None:
        with self.lock:
            self._console = None
            for waiting in self.waiting.values():
                waiting.clear()

    def _serve(self, uart: str, server: socket.socket) -> None:
        client, _ = server.accept()
        self.clients[uart] = client
        if uart == "console":
            self.reached.set()
        while data := client.recv(4096):
            with self.lock:
                self.waiting[uart] += data
                if self.running:
                    self._run()

    def _run(self) -> None:
        self.reached.wait(60)
        if self._console is None:
            self._boot()
        self._console.feed(bytes(self.waiting["sensor"]))
        said = self._console.exchange(bytes(self.waiting["console"]), 0)
        for waiting in self.waiting.values():
            waiting.clear()
        self.clients["console"].sendall(said)

    def _boot(self) -> None:
        assert self.image is not None
        vectors = self.board.slot_address + 0x200
        assert int(self.settings["VectorTableOffset"], 0) == vectors
        self._console = _Console(self.image, self.board, count_instructions=True, timeout_s=60.0)
        # Nanoseconds between ticks, in an emulation of 64 an instruction: as many ticks as at this speed.
        mips = int(self.settings["PerformanceInMips"])
        self._console._tick_ns = 64 * mips * 1_000_000 // self.board.peripheral_hz
        self._console.power_on()
        self.clients["console"].sendall(self._console.greeting)


class Monitor:
    """Executes commands; `answer` is what it prints."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.macros: dict[str, list[str]] = {}

    @property
    def prompt(self) -> str:
        return f"\x1b[33;1m({self.machine.name if self.machine else 'monitor'}) \x1b[0m"

    def answer(self, command: str) -> str:
        for pattern, act in self.COMMANDS.items():
            if found := re.fullmatch(pattern, command.strip()):
                return act(self, *found.groups()) or ""
        word = command.strip().split(" ")[0]
        return f"\x1b[31;1mNo such command or device: {word}\x1b[0m" if word else ""

    def _include(self, file: str) -> str:
        lines = iter(Path(file).read_text("utf-8").splitlines())
        said = []
        for line in lines:
            if line.startswith("macro "):
                assert next(lines) == '"""'
                self.macros[line.split()[1]] = list(iter(lambda: next(lines), '"""'))
            elif line and not line.startswith("#"):
                said.append(self.answer(line))
        return "\r\n".join(filter(None, said))

    def _macro(self, name: str) -> str:
        return "\r\n".join(filter(None, (self.answer(line) for line in self.macros[name])))

    def _create(self, name: str) -> None:
        self.machine = Machine(name)

    def _platform(self, file: str) -> str:
        assert self.machine is not None
        text = Path(file).read_text("utf-8")
        for address in (self.machine.board.uart_address, self.machine.board.slot_address):
            if f"@ sysbus {address:#x}" not in text:
                return f"There was an error executing command 'machine LoadPlatformDescription @{file}'\r\nError E01"
        return ""

    def _set(self, name: str, value: str) -> None:
        assert self.machine is not None
        self.machine.settings[name] = value

    def _terminal(self, port: str, name: str) -> None:
        assert self.machine is not None
        self.machine.terminals[name] = socket.create_server(("127.0.0.1", int(port)))

    def _connect(self, uart: str, name: str) -> None:
        assert self.machine is not None
        self.machine.listen(uart, self.machine.terminals[name])

    def _load(self, file: str, address: str) -> None:
        assert self.machine is not None
        assert int(address, 0) == self.machine.board.slot_address
        self.machine.image = Path(file).read_bytes()

    def _act(self, name: str) -> str:
        assert self.machine is not None
        getattr(self.machine, name)()
        return f"{name} done, says a log in between"

    def _reset(self) -> str:
        assert self.machine is not None
        self.machine.reset()
        return self._macro("reset")

    COMMANDS: ClassVar[dict[str, Any]] = {
        r'echo "(.*)"': lambda _self, text: text,
        r"include @(\S+)": _include,
        r'mach create "(\S+)"': _create,
        r"machine LoadPlatformDescription @(\S+)": _platform,
        r"machine Reset": _reset,
        r"cpu (PerformanceInMips|VectorTableOffset) (\S+)": _set,
        r'emulation CreateServerSocketTerminal (\d+) "(\S+)" false': _terminal,
        r"connector Connect sysbus\.(\S+) (\S+)": _connect,
        r"sysbus LoadBinary @(\S+) (\S+)": _load,
        r"runMacro \$(\S+)": _macro,
        r"(start|pause)": _act,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plain", action="store_true", required=True)
    parser.add_argument("--disable-xwt", action="store_true", required=True)
    parser.add_argument("--port", type=int, required=True)
    server = socket.create_server(("127.0.0.1", parser.parse_args().port))
    client, _ = server.accept()
    monitor, begun = Monitor(), b""
    client.sendall(BANNER + monitor.prompt.encode())
    while data := client.recv(4096):
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            client.sendall(line + b"\r\n")
            said = monitor.answer(line.decode())
            client.sendall(f"{said}\r\n{monitor.prompt}".encode())


if __name__ == "__main__":
    main()
