"""A serial port of an instrument: raw bytes, opened by one program at a time, read by a thread while it measures.

USB instruments speak CDC ACM, where a baud rate means nothing; so the standard library is enough.
"""

import fcntl
import os
import select
import termios
import threading
import time
import tty
from typing import Final

from shared.energy import DisconnectedError, PortBusyError

_CHUNK: Final = 65536
_POLL_S: Final = 0.05
_LAST_S: Final = 1.0


class Port:
    """An open port."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            PortBusyError: it does not exist, may not be opened, is in use, or is no serial port.
        """
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise PortBusyError(
                f"{path}: {error.strerror}. Next: look which port the instrument has (`ls /dev/serial/by-id`),"
                " and whether you are in the group that may open it (often `dialout`)"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tty.setraw(self._descriptor)
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except (OSError, termios.error) as error:
            os.close(self._descriptor)
            in_use = isinstance(error, BlockingIOError)
            said = "another program has it" if in_use else "it is no serial port"
            raise PortBusyError(f"{path}: {said}. Next: close the other program, or name another port") from error

    def write(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            DisconnectedError: the instrument is gone.
        """
        left = memoryview(data)
        while left:
            select.select((), (self._descriptor,), (), 1.0)
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone() from error

    def read(self, timeout_s: float) -> bytes:
        """Return what came; nothing if nothing came in time.

        Raises:
            DisconnectedError: the instrument is gone.
        """
        ready, _, _ = select.select((self._descriptor,), (), (), timeout_s)
        if not ready:
            return b""
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._gone() from error
        if not data:
            raise self._gone()
        return data

    def read_until(self, ending: bytes, timeout_s: float) -> bytes:
        """Return what came up to and with `ending`, or all that came until the time was up."""
        deadline = time.monotonic() + timeout_s
        data = b""
        while ending not in data and (left := deadline - time.monotonic()) > 0:
            data += self.read(left)
        return data

    def drain(self, quiet_s: float) -> None:
        """Read and forget until nothing came for `quiet_s`; at most for a second, as a wrong device may never stop."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and self.read(quiet_s):
            pass

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._descriptor < 0

    def close(self) -> None:
        """Close it. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _gone(self) -> DisconnectedError:
        return DisconnectedError(
            f"{self.path}: the instrument went away. Next: check cable and hub, then measure again;"
            " nothing of this measurement is used"
        )


class Capture:
    """What a port says while a measurement runs, read by a thread so that the instrument's buffer never fills."""

    def __init__(self, port: Port, begun: bytes = b"") -> None:
        """Begin to read. `begun` was read already."""
        self._port = port
        self._data = bytearray(begun)
        self._stopping = threading.Event()
        self._failure: DisconnectedError | None = None
        self._thread = threading.Thread(target=self._run, name=f"capture {port.path}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return how many bytes came so far."""
        return len(self._data)

    def finish(self) -> bytes:
        """Read what is still on its way, end the thread and return all that came.

        Raises:
            DisconnectedError: the instrument went away meanwhile.
        """
        self.abandon()
        if self._failure:
            raise self._failure
        return bytes(self._data)

    def abandon(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        deadline = None
        try:
            while deadline is None or time.monotonic() < deadline:
                came = self._port.read(_POLL_S)
                self._data += came
                if self._stopping.is_set():
                    if not came:
                        return
                    deadline = deadline or time.monotonic() + _LAST_S
        except DisconnectedError as error:
            self._failure = error
