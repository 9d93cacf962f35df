"""What a board's bytes say about the way to it. Pure: from what was sent and what came to a trouble by name."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from shared.mlperf_tiny import READY, Diagnosis, Trouble

_GARBAGE_SHARE: Final = 0.1
"""Above it bytes were sampled at the wrong rate; below it a byte or two were damaged."""
_TEXT: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\r\n\t")
_QUOTED: Final = 60
_LEAST_SIMILAR: Final = 4
_FIXED_LINES: Final = (
    "m-ready",
    "m-init-done",
    "m-load-done",
    "m-warmup-done",
    "m-infer-done",
    "m-timestamp-mode-performance",
)
_PREFIXES: Final = ("m-name-dut-[", "m-profile-[", "m-model-[", "m-lap-us-", "m-results-[", "m-buffer-")
_ENERGY_MODE: Final = "m-timestamp-mode-energy"

CHECK_CABLE: Final = (
    "lower the baud rate or shorten the cable, leave out hubs, and give the firmware's UART a buffer or an interrupt; "
    "`db print` of the same bytes twice shows whether it is the way there or the way back"
)
_OTHER_RATE: Final = "set --baud to the rate of the firmware (115200 in the reference, 9600 behind EEMBC's IO manager)"


def diagnose(sent: bytes, received: bytes, *, answers: int, waited_s: float) -> Diagnosis | None:
    """Return what is wrong with an exchange, or None when it is an answer.

    Args:
        sent: the commands; empty where a board was only listened to.
        received: all that came.
        answers: how many were asked for.
        waited_s: how long was waited for what is missing.
    """
    complete = len(READY.findall(received)) >= answers
    if not received.strip():
        # Line ends alone belong to the answer before.
        return None if complete else _silence(waited_s)
    garbage = sum(byte not in _TEXT for byte in received)
    if garbage > _GARBAGE_SHARE * len(received):
        found = f"{garbage} of {len(received)} bytes are not text ({received[:8].hex(' ')} …)"
        return Diagnosis(Trouble.BAUD_MISMATCH, found, _OTHER_RATE)
    lines = lines_of(received)
    if _ENERGY_MODE in lines:
        return wrong_mode(f"the firmware says {_ENERGY_MODE}")
    return _echo(sent, lines) or (None if complete else _incomplete(lines, waited_s))


def lines_of(received: bytes) -> list[str]:
    """Return the lines of an answer, without empty ones."""
    text = received.decode("ascii", "replace")
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def wrong_mode(found: str) -> Diagnosis:
    """Return the diagnosis of firmware that was built to measure energy."""
    step = "build the firmware with EE_CFG_ENERGY_MODE 0 and flash it: latency is measured in performance mode"
    return Diagnosis(Trouble.WRONG_MODE, found, step)


def dropped(found: str) -> Diagnosis:
    """Return the diagnosis of bytes that were lost or changed on the way."""
    return Diagnosis(Trouble.DROPPED_BYTES, found, CHECK_CABLE)


def lost_characters(line: str) -> str | None:
    """Return the line of the protocol that `line` is with characters missing, if there is one."""
    if len(line) < _LEAST_SIMILAR:
        return None
    for whole in _FIXED_LINES:
        if line != whole and len(line) * 2 >= len(whole) and _is_part(line, whole):
            return whole
    if line.startswith(_PREFIXES):
        return None
    for prefix in _PREFIXES:
        # One character less than the whole prefix, followed by what was meant to follow.
        if any(line.startswith(prefix[:at] + prefix[at + 1 :]) for at in range(len(prefix) - 1)):
            return prefix + "…"
    return None


def _silence(waited_s: float) -> Diagnosis:
    return Diagnosis(
        Trouble.SILENCE,
        f"no byte within {waited_s:g} s",
        "check that the board has power and runs the firmware, that this is its port, and that TX and RX are not "
        "swapped; press its reset: the reference prints m-ready at boot",
    )


def _echo(sent: bytes, lines: Sequence[str]) -> Diagnosis | None:
    command = sent.split(b"%", 1)[0].decode("ascii", "replace").strip()
    if not command or not any(f"{command}%" in line for line in lines):
        return None
    answered = any(line.startswith(("m-", "e-")) for line in lines)
    others = [line for line in lines if f"{command}%" not in line]
    if answered:
        return Diagnosis(
            Trouble.ECHO,
            f"the board sends back the command {command}% before its answer",
            "turn the echo off where it comes from: in the firmware's console, or in the terminal server "
            "(`stty -F PORT raw -echo` on a Linux machine in between)",
        )
    if not others and not lines[0].replace(f"{command}%", ""):
        step = "separate TX and RX: they are joined, or a terminal server echoes to itself; then check the firmware"
        return Diagnosis(Trouble.ECHO, f"only what was sent came back ({command}%), and no answer", step)
    return _not_a_dut(lines)


def _incomplete(lines: Sequence[str], waited_s: float) -> Diagnosis:
    damaged = [(line, whole) for line in lines if (whole := lost_characters(line))]
    if damaged:
        line, whole = damaged[-1]
        return dropped(f"{line!r} came where {whole!r} was meant")
    if not any(line.startswith(("m-", "e-")) for line in lines):
        return _not_a_dut(lines)
    return Diagnosis(
        Trouble.READY_MISSING,
        f"the answer does not end in m-ready within {waited_s:g} s; its last line is {_quoted(lines[-1:])}",
        "reset the board: its firmware hangs in this command; if it always does, run it under a debugger there",
    )


def _not_a_dut(lines: Iterable[str]) -> Diagnosis:
    return Diagnosis(
        Trouble.NOT_A_DUT,
        f"something answers, in another language: {_quoted(lines)}",
        "flash firmware that speaks MLPerf Tiny's protocol (`edgeloop compile` makes one), or name the board's other "
        "port",
    )


def _quoted(lines: Iterable[str]) -> str:
    text = " | ".join(lines)
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")


def _is_part(line: str, whole: str) -> bool:
    """Return whether `line` is `whole` with characters left out."""
    rest = iter(whole)
    return all(character in rest for character in line)
