"""Simulators of instruments, each the other end of a real pseudo terminal, after the makers' documented protocols."""

import contextlib
import os
import pty
import select
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt


class SimulatedInstrument(ABC):
    """What sits on a port: a thread that answers what it is told, until it is unplugged."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.sent = threading.Event()
        """Set when all samples of a measurement are on their way."""
        self.go = threading.Event()
        """Cleared, it keeps samples back after the start of a measurement."""
        self.go.set()
        self._unplugging = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @abstractmethod
    def hear(self, data: bytes) -> None:
        """Answer what the host sent."""

    def send(self, data: bytes) -> None:
        left = memoryview(data)
        while left and not self._unplugging.is_set():
            if select.select((), (self._master,), (), 0.05)[1]:
                left = left[os.write(self._master, left[:512]) :]

    def unplug(self) -> None:
        self._unplugging.set()
        self._thread.join()
        for descriptor in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._unplugging.is_set():
            self.unplug()

    def _run(self) -> None:
        while not self._unplugging.is_set():
            if select.select((self._master,), (), (), 0.02)[0]:
                self.hear(os.read(self._master, 4096))


class SilentInstrument(SimulatedInstrument):
    """Something that reads and never says a word."""

    def hear(self, data: bytes) -> None:
        pass


class SimulatedPpk2(SimulatedInstrument):
    """A PPK2 whose calibration is not the usual one."""

    R = (1003.3, 101.5, 10.18, 0.955, 0.0466)
    GAIN, OFFSET, SLOPE, SUPPLY = 1.02, 112.0, 1.5e-9, 2e-9
    ARGUMENTS: ClassVar = {0x06: 0, 0x07: 0, 0x0C: 1, 0x0D: 2, 0x11: 1, 0x19: 0}

    def __init__(
        self,
        amperes: npt.NDArray[np.float64],
        levels: npt.NDArray[np.bool_],
        *,
        lose: slice | None = None,
        channel: int = 0,
    ) -> None:
        self.commands: list[bytes] = []
        self._words = self._encoded(amperes, levels, channel)
        if lose is not None:
            kept = np.ones(len(self._words), dtype=bool)
            kept[lose] = False
            self._words = self._words[kept]
        self._told = b""
        super().__init__()

    def hear(self, data: bytes) -> None:
        self._told += data
        while self._told:
            length = 1 + self.ARGUMENTS[self._told[0]]
            if len(self._told) < length:
                return
            command, self._told = self._told[:length], self._told[length:]
            self.commands.append(command)
            if command[0] == 0x19:
                self.send(self.metadata())
            elif command[0] == 0x06:
                self.go.wait(60)
                self.send(self._words.astype("<u4").tobytes())
                self.sent.set()

    def metadata(self) -> bytes:
        lines = ["Calibrated: 0"]
        for key, values in {
            "R": self.R,
            "GS": (0.0,) * 5,
            "GI": (self.GAIN,) * 5,
            "O": (self.OFFSET,) * 5,
            "S": (self.SLOPE,) * 5,
            "I": (self.SUPPLY,) * 5,
            "UG": (1.0,) * 5,
        }.items():
            lines += [f"{key}{index}: {value:.12g}" for index, value in enumerate(values)]
        return "\n".join([*lines, "HW: 9173", "mode: 2", "vdd: 3300", "IA: 56", "END"]).encode()

    def _encoded(
        self, amperes: npt.NDArray[np.float64], levels: npt.NDArray[np.bool_], channel: int
    ) -> npt.NDArray[np.int64]:
        """Return what the converter gives for these currents at 3.3 V, each in its smallest range."""
        tops = np.array([50e-6, 500e-6, 5e-3, 60e-3])
        ranges = np.searchsorted(tops, amperes)
        supply = self.SLOPE * 3.3 + self.SUPPLY
        adc = (amperes - supply) / self.GAIN * np.array(self.R)[ranges] / (1.8 / 163_840) + self.OFFSET
        counter = np.arange(len(amperes)) % 64
        value: npt.NDArray[np.int64] = np.rint(adc / 4).astype(np.int64)
        value |= (ranges << 14) | (counter << 18)
        value |= levels.astype(np.int64) << (24 + channel)
        return value


class SimulatedLpm01a(SimulatedInstrument):
    """An LPM01A; `stamps` are after how many samples a time stamp of how many ms comes, with a buffer how full."""

    def __init__(
        self,
        amperes: Sequence[float],
        *,
        rate_hz: int = 100_000,
        extra: bytes = b"",
        load: int = 3,
        lose: slice | None = None,
        degrees: Sequence[float] = (25.0,),
        refuse: str = "",
    ) -> None:
        self.commands: list[str] = []
        self._amperes, self._rate_hz, self._extra, self._load = list(amperes), rate_hz, extra, load
        self._lost = range(len(self._amperes))[lose] if lose else range(0)
        self._degrees = iter([*degrees, *[degrees[-1]] * 9])
        self._refuse, self._told, self._binary = refuse, b"", False
        super().__init__()

    def hear(self, data: bytes) -> None:
        self._told += data
        while b"\n" in self._told:
            line, _, self._told = self._told.partition(b"\n")
            self._obey(line.decode().strip())

    def _obey(self, command: str) -> None:
        self.commands.append(command)
        if self._refuse and command.startswith(self._refuse):
            self.send(f"\r\nPowerShield > error {command}\r\nError detail: out of range\r\n".encode())
            return
        if command == "stop":
            return
        value = f" {next(self._degrees)}" if command == "temp degc" else ""
        self.send(f"\r\nPowerShield > ack {command}{value}\r\n\r\n".encode())
        if command.startswith("format"):
            self._binary = command.endswith("bin_hexa")
        if command == "start":
            self.go.wait(60)
            self.send(b"".join(self._stream()))
            self.sent.set()

    def _stream(self) -> Iterator[bytes]:
        sample, stamp = (binary_sample, binary_stamp) if self._binary else (ascii_sample, ascii_stamp)
        every = max(self._rate_hz // 100, 1)
        for index, ampere in enumerate(self._amperes):
            if index % every == 0:
                yield stamp(round(index / self._rate_hz * 1000), self._load)
            if index not in self._lost:
                yield sample(ampere)
        yield stamp(round(len(self._amperes) / self._rate_hz * 1000), self._load)
        yield self._extra
        yield b"\xf0\xf4\xff\xff" if self._binary else b""
        yield b"\r\nPowerShield > Acquisition completed\r\n"


def binary_sample(ampere: float) -> bytes:
    exponent = max(digit for digit in range(3, 10) if digit == 3 or ampere * 16.0**digit < 0x1000)
    mantissa = min(round(ampere * 16.0**exponent), 0xFFF)
    return bytes([exponent << 4 | mantissa >> 8, mantissa & 0xFF])


def binary_stamp(milliseconds: int, load: int) -> bytes:
    return b"\xf0\xf3" + milliseconds.to_bytes(4, "big") + bytes([load]) + b"\xff\xff"


def ascii_sample(ampere: float) -> bytes:
    return b"%04d-07\r\n" % round(ampere * 1e7)


def ascii_stamp(milliseconds: int, load: int) -> bytes:
    return f"\r\nTimeStamp: {milliseconds // 1000}s {milliseconds % 1000}ms, buff {load}%\r\n".encode()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.002)
