"""The host's side of MLPerf Tiny: drives any board that speaks EEMBC's protocol, and names what goes wrong.

The same conversation (`session`) runs over a serial port (`serial_line`) and over an emulated board. What came instead
of an answer is judged by `diagnosis`, which is pure.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

READY: Final = re.compile(rb"(?:^|[\r\n])m-ready(?=[\r\n]|$)")
"""The end of an answer. The line's own end may still be on its way: a pseudo-terminal can hold back the last byte."""
COMMAND_CHARACTERS: Final = 80
"""The longest command, its ``%`` included, that the reference firmware takes."""


class Trouble(StrEnum):
    """What goes wrong between a host and a board, by name."""

    UNREACHABLE = "unreachable"
    """The port cannot be opened."""
    LOST = "lost"
    """The port went away in the middle."""
    SILENCE = "silence"
    BAUD_MISMATCH = "baud-mismatch"
    ECHO = "echo"
    WRONG_MODE = "wrong-mode"
    """The firmware was built to measure energy: its timestamps are pulses on a pin."""
    NOT_A_DUT = "not-a-dut"
    READY_MISSING = "ready-missing"
    DROPPED_BYTES = "dropped-bytes"
    REFUSED = "refused"
    """The firmware answered a right command with an error."""
    WRONG_MODEL = "wrong-model"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A trouble, what was found, and what to do next."""

    trouble: Trouble
    found: str
    next_step: str


class DutError(RuntimeError):
    """The board, or the way to it, is at fault. It says nothing about the model."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(f"{diagnosis.trouble}: {diagnosis.found}. Next: {diagnosis.next_step}")
        self.diagnosis = diagnosis


class Line(Protocol):
    """Bytes to and from a board."""

    name: str
    """What a user calls it: a port, an emulator."""

    def exchange(self, request: bytes, answers: int, *, timeout_s: float) -> bytes:
        """Send a request; return what came until `READY` was there as often, or until the time was over.

        Raises:
            DutError: the port went away.
            shared.emulation.EmulationError: an emulated board faulted or hung.
        """

    def close(self) -> None:
        """Free the board."""
