"""A board at a port that pyserial can open: a device file, ``socket://host:port``, ``rfc2217://host:port``."""

import contextlib
import io
import os
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import serial

from shared.mlperf_tiny import READY, Diagnosis, DutError, Trouble

BAUD: Final = 115_200
_POLL_S: Final = 0.05
_BLOCK_BYTES: Final = 4096
_PIECE_BYTES: Final = 256
"""Written at a time: between two pieces another thread may close the line."""
_TAKEN_S: Final = 5.0
"""How long a board may take over a piece."""
_RESET_S: Final = 0.1
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class SerialLine:
    """A `Line` over pyserial. Nothing that came before a request is dropped: it belongs to the diagnosis.

    One thread at a time may use it, and any thread may close it.
    """

    def __init__(self, url: str, *, baud: int = BAUD, hear: Callable[[bytes], None] = lambda _data: None) -> None:
        """Open the port, 8 data bits, no parity, one stop bit. `hear` is given all that comes, in the reader's thread.

        Raises:
            DutError: there is no such port, or somebody else holds it.
        """
        self.name = url
        self._hear = hear
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._closed = False
        # pyserial's client of RFC 2217 knows no such limit; its socket has one.
        limit_s = None if url.casefold().startswith("rfc2217:") else _TAKEN_S
        try:
            # Exclusive: of two programs at one port each would get some of the other's bytes.
            self._port: Any = serial.serial_for_url(
                url, baudrate=baud, timeout=_POLL_S, write_timeout=limit_s, exclusive=True
            )
        except (serial.SerialException, ValueError, OSError) as error:
            step = "look for the port (`python -m serial.tools.list_ports`), close other programs that hold it"
            raise DutError(Diagnosis(Trouble.UNREACHABLE, f"{url} cannot be opened: {error}", step)) from error

    def exchange(self, request: bytes, answers: int, *, timeout_s: float) -> bytes:
        """Send, and collect until the board was ready as often. See `Line`.

        Raises:
            DutError: the port went away, or the board takes nothing.
        """
        self.write(request)
        received, deadline = bytearray(), time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            received += self.listen()
            if len(READY.findall(received)) >= answers:
                break
        return bytes(received)

    def write(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            DutError: as of `exchange`.
        """
        for at in range(0, len(data), _PIECE_BYTES):
            with self._writing, self._named():
                self._port.write(data[at : at + _PIECE_BYTES])

    def listen(self) -> bytes:
        """Return what comes within a moment.

        Raises:
            DutError: the port went away.
        """
        with self._reading, self._named():
            received = bytes(self._port.read(max(1, min(self._port.in_waiting, _BLOCK_BYTES))))
        if received:
            self._hear(received)
        return received

    def pull_reset(self) -> None:
        """Pulse DTR and RTS, which the reset line of many boards hangs at.

        Raises:
            DutError: the port went away.
        """
        for level in (False, True):
            with self._writing, self._named():
                self._port.dtr = self._port.rts = level
            time.sleep(_RESET_S)

    def close(self) -> None:
        """Give the port back. What was written and has not left yet does not leave any more."""
        self._closed = True
        with self._writing, contextlib.suppress(serial.SerialException, OSError, termios.error):
            self._port.reset_output_buffer()
        with self._writing, self._reading:
            # Not every kind of port has a descriptor.
            with contextlib.suppress(OSError, AttributeError, io.UnsupportedOperation), _socket_of(self._port) as link:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            with contextlib.suppress(serial.SerialException, OSError):
                self._port.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Name what happens to the port."""
        try:
            if self._closed:
                raise serial.PortNotOpenError
            yield
        except serial.SerialTimeoutException as error:
            step = "reset the board, and look at its flow control: it takes no more bytes"
            raise DutError(Diagnosis(Trouble.SILENCE, f"{self.name} took nothing for {_TAKEN_S:g} s", step)) from error
        except (serial.SerialException, OSError, termios.error) as error:
            step = "plug the board in again, and look at its supply and cable; then start the run anew"
            raise DutError(Diagnosis(Trouble.LOST, f"{self.name} went away: {error}", step)) from error


@contextlib.contextmanager
def _socket_of(port: Any) -> Iterator[socket.socket]:  # noqa: ANN401 - pyserial has no types
    descriptor = os.dup(port.fileno())
    try:
        link = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    with link:
        yield link
