"""Speaks QMP, QEMU's machine protocol: one JSON object a line, each command answered by ``return`` or ``error``."""

import json
import socket
from typing import Any

from shared.emulation import EmulationError


class Qmp:
    """The host's end of a connection. Events are passed over."""

    def __init__(self, channel: socket.socket, timeout_s: float) -> None:
        """Take a connected socket; QEMU greets when it is first asked something."""
        self._channel = channel
        self._channel.settimeout(timeout_s)
        self._received = b""
        self._negotiated = False

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Have QEMU do something, and return what it answers.

        Raises:
            EmulationError: QEMU refused, ended, or did not answer in time.
        """
        if not self._negotiated:
            if "QMP" not in (greeting := self._read()):
                raise EmulationError(f"QEMU's monitor did not greet as QMP does: {greeting}")
            self._negotiated = True
            self.ask("qmp_capabilities")
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise EmulationError(f"QEMU ended before it could be told to {command} ({error})") from error
        while True:
            said = self._read()
            if "error" in said:
                raise EmulationError(f"QEMU refused {command}: {said['error'].get('desc', said['error'])}")
            if "return" in said:
                return said["return"]

    def _read(self) -> dict[str, Any]:
        try:
            while b"\n" not in self._received:
                part = self._channel.recv(65536)
                if not part:
                    raise EmulationError("QEMU ended while its monitor was asked")
                self._received += part
        except OSError as error:
            raise EmulationError(f"QEMU's monitor gave no answer ({error})") from error
        line, _, self._received = self._received.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said
