"""The operators' commands against the lab's own service, with real firmware on its emulated boards."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer
from tests.data.gestures.release import FOLDER, MemoryBlobs
from tests.integration.cli.lab_cli import LabCli
from tests.integration.device_lab.workshop import Workshop
from tests.support import ServiceProcess, eventually

BOARD = "local-cortex-m4-1"


@pytest.fixture
def lab_cli(nats_server: EmbeddedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> LabCli:
    return LabCli(nats_server.url, tmp_path / "mine", capfd)


@pytest.fixture
async def service(nats_server: EmbeddedServer, nc: Client, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """The scheduler with one emulated board of each kind."""
    assert nc.is_connected
    folder = tmp_path / "service"
    folder.mkdir()
    process = ServiceProcess("device_lab_scheduler", nats_server.url, folder, EDGELOOP_LAB_EMULATOR="unicorn")
    process.start()
    yield process
    if process.running:
        process.stop()


async def good_boards(lab_cli: LabCli) -> list[Any]:
    """Return the boards that may be given out, as soon as there are some."""

    async def found() -> list[Any]:
        code, boards = await lab_cli("boards", "--need", "core in cortex-m4")
        return [board for board in boards if board["health"] == "good" and board["live"]] if code == 0 else []

    return await eventually(found)


async def held(lab_cli: LabCli) -> str:
    code, job = await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    assert (code, [lease["board"] for lease in job["held"]]) == (0, [BOARD])
    job_id: str = job["id"]
    return job_id


@pytest.mark.usefixtures("service")
async def test_a_test_is_queued_run_on_a_board_and_kept_in_the_history(lab_cli: LabCli) -> None:
    assert [board["name"] for board in await good_boards(lab_cli)] == [BOARD]
    code, job = await lab_cli("submit", str(FOLDER / "int8.tflite"), "--board", "cortex-m4", "--procedure", "parity",
                              "--project", "gestures", "--wait")  # fmt: skip
    assert (code, job["verdict"], [each["board"] for each in job["attempts"]]) == (0, "passed", [BOARD])
    code, history = await lab_cli("history", "--project", "gestures")
    (result,) = history["results"]
    assert (result["job"], result["verdict"], result["signature"]) == (job["id"], "passed", "unsigned")


@pytest.mark.usefixtures("service")
async def test_a_console_talks_to_firmware_that_it_flashed_and_closes_when_the_board_is_given_back(
    lab_cli: LabCli, workshop: Workshop, tmp_path: Path
) -> None:
    await good_boards(lab_cli)
    job, kept = await held(lab_cli), MemoryBlobs()
    image = tmp_path / "firmware.img"
    image.write_bytes(kept.kept[workshop.build(kept, "cortex-m4").image.digest])
    talking = lab_cli.process("console", BOARD, "--flash", str(image), "--follow")
    assert talking.stdin is not None
    assert talking.stdout is not None
    talking.stdin.write(b"name%")
    talking.stdin.flush()
    heard = b""
    while b"m-ready" not in heard.partition(b"m-name-dut-[edgeloop]")[2]:
        line = await asyncio.to_thread(talking.stdout.readline)
        assert line, "the console closed"
        heard += line
    assert await lab_cli("release", BOARD) == (0, {"released": [BOARD]})
    await asyncio.to_thread(talking.stdin.close)
    talking.stdin = None
    _, err = await asyncio.to_thread(talking.communicate)
    assert (talking.returncode, "the console is closed" in err.decode()) == (3, True), err.decode()
    code, ended = await lab_cli("jobs", job)
    assert (code, ended["verdict"]) == (0, "passed")


async def test_a_lease_outlives_the_desk_and_a_board_that_is_taken_out_is_not_given(
    lab_cli: LabCli, service: ServiceProcess
) -> None:
    await good_boards(lab_cli)
    job = await held(lab_cli)
    service.stop()
    code, answer = await lab_cli("lease", "list")
    assert (code, "edgeloop doctor" in answer["next_step"]) == (3, True)
    service.start()

    async def renewed() -> bool:
        code, _, _ = await lab_cli.text("lease", "renew", BOARD)
        return code == 0

    await eventually(renewed)
    assert await lab_cli("release", job) == (0, {"released": [BOARD]})
    code, board = await lab_cli("health", BOARD, "take-out", "--reason", "new antenna")
    assert (code, board["health"], board["reason"]) == (0, "maintenance", "new antenna")
    code, waiting = await lab_cli("reserve", "--board", "cortex-m4")
    assert (code, waiting["state"], waiting["bound_s"]) == (0, "waiting", None)
    assert "maintenance" in waiting["waits_for"]
    assert json.dumps(waiting["held"]) == "[]"
