"""Drives Renode's monitor over telnet: one command a line, answered by text without an end, and by a prompt.

The end of an answer is made certain by a second command that echoes a word of ours: prompts change with the machine,
and lines of a log come in between.
"""

import re
import socket
import time
from typing import Final

from shared.emulation import EmulationError

_IAC: Final = 0xFF
_NEGOTIATION: Final = range(0xFB, 0xFF)
"""WILL, WON'T, DO, DON'T: an option follows."""
_ANSI: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_PROMPT: Final = re.compile(r"^(?:\([^()\r\n]*\) ?)+")
_REFUSALS: Final = re.compile(
    r"There was an error executing command|No such command or device|Bad parameters for command|Could not tokenize"
    r"|does not provide a field|^Error E\d+|Internal error",
    re.MULTILINE,
)


class Monitor:
    """The host's end of a connection. Not thread-safe."""

    def __init__(self, channel: socket.socket, timeout_s: float) -> None:
        """Take a connected socket.

        Args:
            channel: to the port that Renode was started with.
            timeout_s: limit of every command; Renode loads platforms and firmware in some of them.
        """
        self._channel = channel
        self._timeout_s = timeout_s
        self._text = _Telnet()
        self._asked = 0

    def ask(self, command: str) -> str:
        """Have Renode do something, and return what it prints, without its echo of the command.

        Raises:
            EmulationError: Renode refused, ended, or did not answer in time.
        """
        self._asked += 1
        mark = f"edgeloop {self._asked}"
        self._send(f'{command}\necho "{mark}"\n', command)
        lines: list[str] = []
        deadline = time.monotonic() + self._timeout_s
        while not lines or lines[-1] != mark:
            lines += [_PROMPT.sub("", line).strip() for line in self._read(deadline, command)]
            if mark in lines:
                lines = lines[: lines.index(mark) + 1]
        # What was typed is echoed: it is no answer.
        answer = "\n".join(line for line in lines[:-1] if line and line not in (command, f'echo "{mark}"'))
        if _REFUSALS.search(answer):
            raise EmulationError(f"Renode refused {command!r}: {answer.replace(chr(10), ' | ')}")
        return answer

    def _send(self, text: str, command: str) -> None:
        try:
            self._channel.sendall(text.encode())
        except OSError as error:
            raise EmulationError(f"Renode ended before it could be told to {command} ({error})") from error

    def _read(self, deadline: float, command: str) -> list[str]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise EmulationError(f"Renode's monitor did not answer {command!r} within {self._timeout_s:g} s")
        self._channel.settimeout(left_s)
        try:
            part = self._channel.recv(65536)
        except TimeoutError:
            return []
        except OSError as error:
            raise EmulationError(f"Renode ended while it was told to {command} ({error})") from error
        if not part:
            raise EmulationError(f"Renode ended while it was told to {command}")
        return self._text.lines(part)


class _Telnet:
    """Whole lines out of a telnet stream, without its commands and without colours."""

    def __init__(self) -> None:
        self._raw = b""
        self._begun = ""

    def lines(self, part: bytes) -> list[str]:
        """Return the lines that end in `part`."""
        text = self._begun + _ANSI.sub("", self._plain(part).decode("utf-8", "replace"))
        # A colour or a character may be torn: what follows the last line end waits for its rest.
        *whole, self._begun = re.split(r"[\r\n]+", text)
        return [_ANSI.sub("", line) for line in whole]

    def _plain(self, part: bytes) -> bytes:
        raw, plain, at = self._raw + part, bytearray(), 0
        self._raw = b""
        while at < len(raw):
            if raw[at] != _IAC:
                plain.append(raw[at])
                at += 1
                continue
            length = 3 if at + 1 < len(raw) and raw[at + 1] in _NEGOTIATION else 2
            if at + length > len(raw):
                self._raw = raw[at:]
                break
            plain += b"\xff" if raw[at + 1] == _IAC else b""
            at += length
        return bytes(plain)
