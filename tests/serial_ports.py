"""A serial port served over the network as RFC 2217 says: what a terminal server, or a rack's ser2net, does."""

import contextlib
import socket
import threading
from typing import Any, Self

import serial
import serial.rfc2217

from tests.support import wait_until

manager_of: Any = serial.rfc2217.PortManager


class Rfc2217Server:
    """Serves the port that pyserial opens at `url` to one client after the other.

    Not a pseudo terminal: it has no modem lines, which the protocol asks for.
    """

    def __init__(self, url: str) -> None:
        self._port: Any = wait_until(lambda: _opened(url))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._server.getsockname()[1]}"
        self.clients = 0
        """Those that have agreed to RFC 2217."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        self._port.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # closed
            with client, contextlib.suppress(OSError):
                self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        writing = _Writing(client)
        manager: Any = manager_of(self._port, writing)
        gone = threading.Event()
        back = threading.Thread(target=self._carry_back, args=(manager, writing, gone), daemon=True)
        back.start()
        try:
            while data := client.recv(4096):
                self._port.write(b"".join(manager.filter(data)))
        finally:
            self.clients += manager._client_is_rfc2217
            gone.set()
            back.join()

    def _carry_back(self, manager: Any, writing: "_Writing", gone: threading.Event) -> None:
        while not gone.is_set() and not self._ending.is_set():
            if data := self._port.read(max(1, self._port.in_waiting)):
                writing.write(b"".join(manager.escape(data)))


def _opened(url: str) -> Any:
    """Open a port; a socket may not be listened to yet."""
    try:
        return serial.serial_for_url(url, timeout=0.02)
    except serial.SerialException as error:
        if "refused" in str(error):
            return None
        raise


class _Writing:
    """One of two threads at a time."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):  # the client has hung up
            self._client.sendall(data)
