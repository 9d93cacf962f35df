"""A board at a port that pyserial can open: a device file, ``socket://host:port``, ``rfc2217://host:port``."""

import time
from typing import Any, Final

import serial

from shared.mlperf_tiny import READY, Diagnosis, DutError, Trouble

BAUD: Final = 115_200
_POLL_S: Final = 0.05
_BLOCK_BYTES: Final = 4096


class SerialLine:
    """A `Line` over pyserial. Nothing that came before a request is dropped: it belongs to the diagnosis."""

    def __init__(self, url: str, *, baud: int = BAUD) -> None:
        """Open the port, 8 data bits, no parity, one stop bit.

        Raises:
            DutError: there is no such port, or somebody else holds it.
        """
        self.name = url
        try:
            self._port: Any = serial.serial_for_url(url, baudrate=baud, timeout=_POLL_S)
        except (serial.SerialException, ValueError, OSError) as error:
            step = "look for the port (`python -m serial.tools.list_ports`), close other programs that hold it"
            raise DutError(Diagnosis(Trouble.UNREACHABLE, f"{url} cannot be opened: {error}", step)) from error

    def exchange(self, request: bytes, answers: int, *, timeout_s: float) -> bytes:
        """Send, and collect until the board was ready as often. See `Line`.

        Raises:
            DutError: the port went away.
        """
        try:
            if request:
                self._port.write(request)
            return self._collected(answers, time.monotonic() + timeout_s)
        except (serial.SerialException, OSError) as error:
            step = "plug the board in again, and look at its supply and cable; then start the run anew"
            raise DutError(Diagnosis(Trouble.LOST, f"{self.name} went away: {error}", step)) from error

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def _collected(self, answers: int, deadline: float) -> bytes:
        received = bytearray()
        while time.monotonic() < deadline:
            received += self._port.read(max(1, min(self._port.in_waiting, _BLOCK_BYTES)))
            if len(READY.findall(received)) >= answers:
                break
        return bytes(received)
