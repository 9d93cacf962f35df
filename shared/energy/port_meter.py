"""What instruments on a serial port have in common: a capture while they measure, marks in it, and an orderly end."""

import contextlib
from typing import ClassVar, Self

from shared.energy import DisconnectedError, MeterOptionError
from shared.energy.port import Capture, Port


class PortMeter:
    """An instrument on a port; subclasses say how it is talked to."""

    _bytes_stop: ClassVar[bytes]
    """Ends a measurement."""
    _bytes_release: ClassVar[bytes] = b""
    """Gives the instrument back."""

    def __init__(self, port: Port) -> None:
        """Take over the port."""
        self._port = port
        self._capture: Capture | None = None
        self._marked: list[int] = []

    def mark(self) -> None:
        """See `EnergyMeter`."""
        if self._capture is None:
            raise MeterOptionError("a mark before the measurement began. Next: call `start` first")
        self._marked.append(len(self._capture))

    def close(self) -> None:
        """Stop what runs, give the instrument back, and release the port. The board stays supplied."""
        if self._port.closed:
            return
        with contextlib.suppress(DisconnectedError):  # gone is as good as given back
            self._port.write((self._bytes_stop if self._capture else b"") + self._bytes_release)
        if self._capture is not None:
            self._capture.abandon()
            self._capture = None
        self._port.close()

    def __enter__(self) -> Self:
        """Return the meter itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _begin(self, begun: bytes = b"") -> None:
        """Capture from here on; `begun` was read already."""
        self._marked = []
        self._capture = Capture(self._port, begun)

    def _finish(self) -> tuple[bytes, tuple[int, ...]]:
        """End the measurement; return all that came, and how many bytes before each mark."""
        if self._capture is None:
            raise MeterOptionError("no measurement runs. Next: call `start` first")
        self._port.write(self._bytes_stop)
        data = self._capture.finish()
        self._capture = None
        return data, tuple(self._marked)
