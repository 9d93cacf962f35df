"""The host's side of the firmware's protocol, the same over every emulator.

Grammar of EEMBC's and MLPerf Tiny's device under test: commands end in ``%``, each answer ends in ``m-ready``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.emulation import BoardControl, EmulatedBoard, EmulationError, FirmwareInfo, Inference

READY = b"m-ready\r\n"
INSTRUCTION_NS = 64
"""What one instruction takes: QEMU's ``-icount shift=6``, and Unicorn's timer here."""

_LINES_SHOWN = 5


class Console(Protocol):
    """Bytes to and from a booted firmware."""

    def exchange(self, request: bytes, answers: int) -> bytes:
        """Send a request of several commands, and return all that came until the firmware was ready as often.

        Raises:
            EmulationError: the firmware faulted, or did not become ready in time.
        """

    def close(self) -> None:
        """Free the board."""


class ControlledConsole(Console, BoardControl, Protocol):
    """The console of a board whose reset line and supply are at hand."""


@dataclass(slots=True)
class Unanswered:
    """What an exchange that gave up still has to come: it is said before the next exchange's answers."""

    count: int = 0
    begun: bytes = b""
    """The first bytes of it."""

    def give_up(self, received: bytes, wanted: int) -> None:
        """Note an exchange that `received` less than the `wanted` answers."""
        self.count = wanted - received.count(READY)
        self.begun = received.rpartition(READY)[2]

    def skip(self, received: bytes) -> bytes:
        """Return what comes after the late answers, and forget them."""
        for _ in range(self.count):
            received = received.partition(READY)[2]
        self.count, self.begun = 0, b""
        return received


@dataclass(frozen=True, slots=True)
class Sensed:
    """One window of a trace. Frames are counted from the trace's beginning."""

    inference: Inference | None
    """None when the trace ended before the window was full."""
    whole: int
    lost: int
    """By the gaps in their numbers; damaged ones are among them."""
    damaged: int


class Dut(EmulatedBoard, Protocol):
    """A booted board as procedures use it: emulated, or real."""

    control: BoardControl

    def sense(self, hop_bytes: int) -> Sensed:
        """Move on in the trace at the second UART, and run one inference. See `DutBoard`."""

    def reads_traces(self) -> bool:
        """Whether traces can be played to it."""


class DutBoard:
    """An `EmulatedBoard` behind a console. Boot is over when it is made."""

    def __init__(self, emulator: str, console: Console, *, timer_hz: int | None) -> None:
        """Ask the firmware what it is. `timer_hz` is the clock of a timer that counts instructions, if it does."""
        self.emulator = emulator
        self._console = console
        self._timer_hz = timer_hz
        self.info: FirmwareInfo = parse_info(_field("info", self._ask("info%")))

    def infer(self, tensor: bytes) -> Inference:
        """Run one inference. See `EmulatedBoard`."""
        if len(tensor) != self.info.input_bytes:
            raise ValueError(f"the model's input has {self.info.input_bytes} bytes; {len(tensor)} were given")
        request = b"db bin %d%%%binfer 1%%output%%" % (len(tensor), tensor)
        return self._inference(_checked(self._console.exchange(request, 3)))

    def sense(self, hop_bytes: int) -> Sensed:
        """Move the input on by so many bytes of the trace that arrives at the second UART, and run one inference.

        Raises:
            EmulationError: the firmware was built without a reader for traces, or no more bytes came, and no end.
        """
        said = self._ask(f"sense {hop_bytes}%")
        counts = _pairs(_field("frames", said))
        inference = None
        if "m-trace-done" not in said:
            inference = self._inference(_checked(self._console.exchange(b"infer 1%output%", 2)))
        return Sensed(inference, int(counts["whole"]), int(counts["lost"]), int(counts["damaged"]))

    def reads_traces(self) -> bool:
        """Whether the firmware was built with a reader for traces."""
        # A hop of none is an error of every firmware; only a reader says so in its own words.
        return b"e-[sense takes" in self._console.exchange(b"sense 0%", 1)

    def _inference(self, answer: str) -> Inference:
        try:
            output = bytes.fromhex(_field("output", answer))
        except ValueError as error:
            raise EmulationError(f"the firmware's output is no hexadecimal number: {_tail(answer)}") from error
        if len(output) != self.info.output_bytes:
            raise EmulationError(f"the firmware gave {len(output)} output bytes instead of {self.info.output_bytes}")
        instructions = None if self._timer_hz is None else _instructions(answer, self._timer_hz)
        return Inference(output=output, instructions=instructions)

    def stack_bytes(self) -> int:
        """Return the stack's high-water mark since boot."""
        return int(_pairs(_field("stack", self._ask("stack%"))).get("used", "0"))

    def ask(self, command: str) -> list[str]:
        """Send one command, and return the lines of the answer without the last, ``m-ready``.

        Raises:
            EmulationError: the firmware answered with an error, or not at all.
        """
        return self._ask(command).splitlines()[:-1]

    def close(self) -> None:
        """Free the board."""
        self._console.close()

    def _ask(self, command: str) -> str:
        return _checked(self._console.exchange(command.encode("ascii"), 1))


class EmulatedDut(DutBoard):
    """A `DutBoard` that is emulated, so that it can be reset, stopped and cut off its supply as well."""

    def __init__(self, emulator: str, console: ControlledConsole, *, timer_hz: int | None) -> None:
        """Ask the firmware what it is, and keep hold of what controls the board."""
        super().__init__(emulator, console, timer_hz=timer_hz)
        self.control: BoardControl = console

    def converse(self, data: bytes) -> bytes:
        """Send bytes as they are, and return what Unicorn's firmware says until it waits for more."""
        return self._console.exchange(data, 0)


def parse_info(text: str) -> FirmwareInfo:
    """Parse what ``info%`` answers between its brackets.

    Raises:
        EmulationError: a key is missing or holds no number.
    """
    pairs = _pairs(text)
    try:
        return FirmwareInfo(
            model_digest=pairs["model"],
            input_bytes=int(pairs["input_bytes"]),
            output_bytes=int(pairs["output_bytes"]),
            input_scale=float(pairs["input_scale"]),
            input_zero_point=int(pairs["input_zero_point"]),
            output_scale=float(pairs["output_scale"]),
            output_zero_point=int(pairs["output_zero_point"]),
        )
    except (KeyError, ValueError) as error:
        raise EmulationError(f"the firmware's info line lacks or garbles {error}: {text!r}") from error


def _pairs(text: str) -> Mapping[str, str]:
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def _checked(answer: bytes) -> str:
    text = answer.decode("ascii", "replace")
    error = re.search(r"^e-\[(.*)\]", text, re.MULTILINE)
    if error:
        raise EmulationError(f"the firmware answered with an error: {error[1]}")
    return text


def _field(name: str, text: str) -> str:
    found = re.search(rf"^m-{name}-\[(.*)\]\r?$", text, re.MULTILINE)
    if found is None:
        raise EmulationError(f"the firmware did not answer with m-{name}-[…]; it said: {_tail(text)}")
    return found[1]


def _instructions(text: str, timer_hz: int) -> int:
    found = re.search(r"^m-ticks-(\d+)\r?$", text, re.MULTILINE)
    if found is None:
        raise EmulationError(f"the firmware reported no ticks; it said: {_tail(text)}")
    return round(int(found[1]) * 1e9 / timer_hz / INSTRUCTION_NS)


def _tail(text: str) -> str:
    return " | ".join(text.splitlines()[-_LINES_SHOWN:]) or "nothing"
