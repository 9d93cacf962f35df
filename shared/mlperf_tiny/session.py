"""A conversation with one board: who are you, here is an input, run it, what came out.

Every answer is held against what was asked, since the protocol has no checksum: counts, sizes and the input itself are
read back. A mistake on the way is a `DutError` that names it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.emulation import EmulationError, FirmwareInfo
from shared.emulation.dut import parse_info
from shared.mlperf_tiny import COMMAND_CHARACTERS, Diagnosis, DutError, Line, Trouble
from shared.mlperf_tiny.diagnosis import CHECK_CABLE, diagnose, dropped, lines_of, wrong_mode

_PRINTED: Final = 4
"""At most so many characters of `db print` tell a byte."""
_HEX_BYTES: Final = (COMMAND_CHARACTERS - len("db %")) // 2


class Loading(StrEnum):
    """How an input gets onto the board."""

    HEX = "hex"
    """The reference: `db load`, then hexadecimal digits in commands of 80 characters."""
    BINARY = "binary"
    """Edgeloop's extension: `db bin`, then the bytes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a board before its silence is judged, in seconds."""

    boot_s: float = 2.0
    """Opening some ports resets the board: how long its greeting may take. Others are silent for that time."""
    answer_s: float = 5.0
    """To a command, beside what it computes. Some boards stall for a second at the first load after a boot."""
    byte_s: float = 10 / 9600
    """For every byte on the way, of inputs and of what is read back: the slowest line is EEMBC's IO manager's."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a board says of itself."""

    vendor: str
    profile: str
    model: str
    info: FirmwareInfo | None
    """Of Edgeloop's own firmware, which has `db bin` and `output`; None for any other."""


@dataclass(frozen=True, slots=True)
class Run:
    """What `infer` gave."""

    times: int
    begin_us: int
    end_us: int
    results: tuple[float, ...]
    """The last output, dequantised, three decimals."""
    ticks: int | None
    """Of the board's timer, in the model alone; an extension."""


class Session:
    """One board behind a line. Not thread-safe."""

    def __init__(self, line: Line, patience: Patience = Patience()) -> None:
        self.line = line
        self._patience = patience
        self._answered = False

    def greet(self) -> Identity:
        """Find out who is there.

        Raises:
            DutError: nobody, or nobody who speaks the protocol in performance mode.
        """
        self._listen()
        found = self._name()
        if not found.startswith("dut-"):
            step = "connect to the board itself: this is EEMBC's IO manager or a monitor, which energy mode has between"
            raise DutError(Diagnosis(Trouble.NOT_A_DUT, f"it calls itself m-name-{found}", step))
        profile = self._ask("profile")
        if not any(line.startswith("m-lap-us-") for line in self._ask("timestamp")):
            raise DutError(wrong_mode("timestamp% is answered without m-lap-us"))
        return Identity(
            vendor=found.removeprefix("dut-[").removesuffix("]"),
            profile=_bracketed("profile", profile),
            model=_bracketed("model", profile),
            info=self._info(),
        )

    def load(self, tensor: bytes, how: Loading = Loading.HEX) -> None:
        """Bring an input onto the board, and read it back.

        Raises:
            DutError: the board holds something else than was sent.
        """
        if how is Loading.BINARY:
            said = self._checked(b"db bin %d%%%b" % (len(tensor), tensor), "db bin")
        else:
            said = self._load_hex(tensor)
        if "m-load-done" not in said:
            raise DutError(dropped(f"{len(tensor)} bytes were sent, and the board still waits for more"))
        self._read_back(tensor)

    def infer(self, times: int = 1, warmups: int = 0, *, computes_s: float = 0.0) -> Run:
        """Run the loaded input `warmups` + `times` times.

        Args:
            times: how often, between two readings of the board's timer.
            warmups: how often before.
            computes_s: what the runs may take, on top of the patience for any answer.

        Raises:
            DutError: the board ran something else, or its answer is damaged.
        """
        said = self._ask(f"infer {times} {warmups}", computes_s=computes_s)
        started = (_numbers("warmup-start", said), _numbers("infer-start", said))
        if started != ([warmups], [times]):
            raise DutError(dropped(f"infer {times} {warmups} was sent, and the board started {started}"))
        laps, results, ticks = _numbers("lap-us", said), _bracketed("results", said), _numbers("ticks", said)
        if len(laps) != 2:
            raise DutError(dropped(f"an inference takes two m-lap-us, and {len(laps)} came"))
        try:
            values = tuple(float(value) for value in results.split(","))
        except ValueError:
            raise DutError(dropped(f"the results are no numbers: {results}")) from None
        return Run(times, laps[0], laps[1], values, ticks[0] if ticks else None)

    def output(self, size_bytes: int) -> bytes:
        """Return the last output's bytes. Edgeloop's extension.

        Raises:
            DutError: the answer is damaged.
        """
        digits = _bracketed("output", self._ask("output"))
        if len(digits) != 2 * size_bytes or not re.fullmatch("[0-9a-f]*", digits):
            raise DutError(dropped(f"an output of {size_bytes} bytes came as {digits!r}"))
        return bytes.fromhex(digits)

    def stack_bytes(self) -> int:
        """Return the stack's high-water mark since boot. Edgeloop's extension.

        Raises:
            DutError: the answer is damaged.
        """
        said = _bracketed("stack", self._ask("stack"))
        if match := re.search(r"\bused=(\d+)", said):
            return int(match[1])
        raise DutError(dropped(f"the stack's use came as {said!r}"))

    def reset(self) -> None:
        """Let a model with state forget. Edgeloop's extension."""
        self._ask("reset")

    def _listen(self) -> None:
        greeting = self.line.exchange(b"", 1, timeout_s=self._patience.boot_s)
        found = diagnose(b"", greeting, answers=1, waited_s=self._patience.boot_s)
        # A board that booted long ago is silent, and one that boots may have begun before anybody listened.
        if found and found.trouble in (Trouble.BAUD_MISMATCH, Trouble.WRONG_MODE):
            raise DutError(found)

    def _name(self) -> str:
        """Return what stands after m-name-. The first try may end a command that somebody else began."""
        for last in (False, True):
            for line in self._exchange(b"name%"):
                if line.startswith("m-name-"):
                    return line.removeprefix("m-name-")
                if last and line.startswith("e-["):
                    raise DutError(_refused("name", line))
        step = "flash firmware that speaks MLPerf Tiny's protocol"
        raise DutError(Diagnosis(Trouble.NOT_A_DUT, "name% is answered without m-name", step))

    def _info(self) -> FirmwareInfo | None:
        said = self._exchange(b"info%")
        try:
            return parse_info(_bracketed("info", said)) if any(line.startswith("m-info-") for line in said) else None
        except EmulationError as error:
            raise DutError(dropped(str(error))) from error

    def _load_hex(self, tensor: bytes) -> list[str]:
        expecting = f"m-[Expecting {len(tensor)} bytes]"
        said = self._ask(f"db load {len(tensor)}")
        if expecting not in said:
            raise DutError(dropped(f"{expecting} should have come, and {said} did"))
        for command in hex_commands(tensor):
            # Not asked twice: the board may have taken half of it.
            said = self._checked(command, command.decode()[:20] + "…%")
        return said

    def _read_back(self, tensor: bytes) -> None:
        said = self._ask(f"db print {len(tensor)} 0", computes_s=_PRINTED * len(tensor) * self._patience.byte_s)
        shown = "".join(line.removeprefix("m-buffer-") for line in said if line.startswith("m-buffer-"))
        digits = shown.replace("-", "")
        if digits != tensor.hex():
            at = next((n for n, (a, b) in enumerate(zip(digits, tensor.hex(), strict=False)) if a != b), len(digits))
            raise DutError(dropped(f"what the board holds is not what was sent, from byte {at // 2} on"))

    def _ask(self, command: str, *, computes_s: float = 0.0) -> list[str]:
        """Send a command that may be sent again, and return the lines of its answer without m-ready."""
        said = self._exchange(command.encode("ascii") + b"%", computes_s=computes_s)
        refusal = _error(said)
        if refusal is None:
            return said
        again = self._exchange(command.encode("ascii") + b"%", computes_s=computes_s)
        if _error(again) is None:
            raise DutError(dropped(f"{command}% was refused ({refusal}), and taken when it was sent again"))
        raise DutError(_refused(command, refusal))

    def _checked(self, request: bytes, command: str) -> list[str]:
        said = self._exchange(request)
        if refusal := _error(said):
            raise DutError(dropped(f"the board refused {command} ({refusal}), which is right as it was sent"))
        return said

    def _exchange(self, request: bytes, *, computes_s: float = 0.0) -> list[str]:
        timeout_s = self._patience.answer_s + computes_s + len(request) * self._patience.byte_s
        received = self.line.exchange(request, 1, timeout_s=timeout_s)
        found = diagnose(request, received, answers=1, waited_s=timeout_s)
        if found is None:
            self._answered = True
            return [line for line in lines_of(received) if line != "m-ready"]
        if self._answered and found.trouble in (Trouble.SILENCE, Trouble.READY_MISSING):
            found = self._after_silence(request)
        raise DutError(found)

    def _after_silence(self, request: bytes) -> Diagnosis:
        """Tell a hang from an end that got lost: a board that answers the next command is alive."""
        command = request[:20].split(b"%")[0].decode("ascii", "replace")
        # Twice: the first may only fill up what a binary load lacks.
        probe = b"name%" * max(1, len(request) // len(b"name%"))
        if self.line.exchange(probe, 1, timeout_s=self._patience.answer_s):
            return dropped(
                f"{command!r} went unanswered, and the board is alive: the end of it or of its answer is lost"
            )
        return Diagnosis(
            Trouble.READY_MISSING,
            f"the board answered before, and is silent since {command!r}",
            "reset the board: its firmware hangs. If it comes back by itself, look for a reset loop: supply, watchdog",
        )


def hex_commands(tensor: bytes) -> Iterator[bytes]:
    """Yield the commands that follow `db load`, of at most 80 characters each."""
    for at in range(0, len(tensor), _HEX_BYTES):
        yield b"db %b%%" % tensor[at : at + _HEX_BYTES].hex().encode()


def _error(said: list[str]) -> str | None:
    return next((line for line in said if line.startswith("e-[")), None)


def _refused(command: str, refusal: str) -> Diagnosis:
    if match := re.search(r"model's input has (\d+) bytes", refusal):
        step = f"flash the firmware of this model, or give it inputs of {match[1]} bytes"
        return Diagnosis(Trouble.WRONG_MODEL, f"{command}% is answered with {refusal}", step)
    step = f"look the error up in the firmware's source; if it comes and goes, {CHECK_CABLE}"
    return Diagnosis(Trouble.REFUSED, f"{command}% is answered with {refusal}", step)


def _numbers(name: str, said: list[str]) -> list[int]:
    return [int(found[1]) for line in said if (found := re.fullmatch(rf"m-{name}-(\d+)", line))]


def _bracketed(name: str, said: list[str]) -> str:
    for line in said:
        if found := re.fullmatch(rf"m-{name}-\[(.*)\]", line):
            return found[1]
    raise DutError(dropped(f"m-{name}-[…] is missing in the answer: {said}"))
