"""The embedded NATS server as a supervised process: ``python -m edgeloop.stack.nats_process DATA PORT STATE_FILE``.

A process of its own, because the kernel tells it when the stack dies, and it then stops the server in good order. A
server that an earlier, killed process left behind is stopped first: the stack holds the data directory's lock, so
nobody else can be using it.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

from edgeloop.layout import write_json
from shared.bus.embedded import LEAST_FREE_BYTES, EmbeddedServer
from shared.bus.errors import EmbeddedServerError

POLL_S = 0.2
CHECK_S = 2.0
ORPHAN_GRACE_S = 5


def main() -> int:
    """Run the server until told to stop (0), or until it ends by itself (1)."""
    data, port, state_file = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    # A list and not an Event: a signal that arrives inside `Event.wait` or `set` would wait for a lock it holds itself.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda found, _: told.append(found))
    _stop_orphan(data.resolve())
    server = EmbeddedServer(data, port=port)
    try:
        server.start()
    except EmbeddedServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write_json(state_file, {"name": "nats", "pid": os.getpid(), "http": server.url})
    checked_at = time.monotonic()
    while server.is_running:
        if told:
            server.stop()
            return 0
        time.sleep(POLL_S)
        if time.monotonic() - checked_at > CHECK_S:
            try:
                _revive(server, data)
            except EmbeddedServerError as error:
                sys.stderr.write(f"{error}\n")
                return 1
            checked_at = time.monotonic()
    sys.stderr.write(f"the NATS server ended; see {server.log}\n")
    return 1


def _revive(server: EmbeddedServer, data: Path) -> None:
    """Start a server anew that a full disk has stopped from storing, once there is room."""
    problem = server.write_error()
    if problem and shutil.disk_usage(data).free >= LEAST_FREE_BYTES:
        sys.stderr.write(f"the NATS server stores nothing ({problem.strip()}); there is room now: starting it anew\n")
        server.stop()
        server.start()


def _stop_orphan(data: Path) -> None:
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        orphan = psutil.Process(int((data / "server.pid").read_text("utf-8")))
        if str(data / "server.conf") in orphan.cmdline():
            orphan.terminate()
            orphan.wait(ORPHAN_GRACE_S)


if __name__ == "__main__":
    sys.exit(main())
