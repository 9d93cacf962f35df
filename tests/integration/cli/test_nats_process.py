"""The supervised NATS server, told to stop again and again: by the stack, and by the kernel when the stack dies."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support import has_ended, wait_until

ROUNDS = 5


def test_however_often_it_is_told_to_stop_it_stops_and_so_does_its_server(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        state_file = tmp_path / f"{number}.json"
        command = [sys.executable, "-m", "edgeloop.stack.nats_process", str(tmp_path / "nats"), "0", str(state_file)]
        with subprocess.Popen(command) as process:
            wait_until(state_file.exists)
            server = int((tmp_path / "nats" / "server.pid").read_text())
            told_until = time.monotonic() + 10
            while process.poll() is None and time.monotonic() < told_until:
                process.send_signal(signal.SIGTERM)
            process.kill()  # a process that ended is not touched by it
        # The interpreter's last moments have no handlers: a signal then ends what has ended already.
        assert process.returncode in (0, -signal.SIGTERM)
        assert has_ended(server)
