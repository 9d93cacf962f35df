"""Virtual boards keep their flash on the host's disk: when that is full they must not forget, and must come back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from device_gateway.virtual.telemetry import TelemetryLog
from shared.emulation import FirmwareInfo
from tests.integration.disk.conftest import Disk
from tests.support import wait_until


def test_a_board_goes_on_counting_its_reports(disk: Disk) -> None:
    info = FirmwareInfo("sha256:" + "0" * 64, 4, 3, 1 / 256, 0, 1 / 256, -128)
    log = TelemetryLog(disk.root / "sequence")
    disk.fill()
    for _ in range(2):
        log.observe("aa", info, np.zeros((2, 2), np.int8), b"\x00\x01\x02")
        log.close_report()
    assert TelemetryLog(disk.root / "sequence")._sequence == 2


def test_the_host_says_what_is_wrong_and_starts_once_there_is_room(disk: Disk, tmp_path: Path) -> None:
    config, state = tmp_path / "virtual.json", disk.root / "run" / "virtual.json"
    boards = [{"id": "board-01", "board": "cortex-m4"}]
    places = {"flash": str(disk.root / "flash"), "state": str(state)}
    config.write_text(json.dumps({"project": "p", "boards": boards, **places}))
    command = [sys.executable, "-m", "device_gateway.virtual"]
    environment = {**os.environ, "EDGELOOP_VIRTUAL_CONFIG": str(config)}

    def run_until_killed() -> None:
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as host:
            wait_until(state.exists)
            host.kill()
        state.unlink()

    run_until_killed()
    disk.fill()
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (refused.returncode, "No space left on device" in refused.stderr) == (3, True), refused.stderr
    disk.free()
    run_until_killed()
