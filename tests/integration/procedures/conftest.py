"""Firmware of one model, and the machine that it is booted on."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.measuring import probing_inputs
from shared.boards import image_board
from shared.events import digest_of
from tests.support import ROOT


@pytest.fixture(scope="session")
def model() -> Path:
    return ROOT / "tests" / "data" / "models" / "cnn_1d.tflite"


@pytest.fixture(scope="session")
def tensor(model: Path) -> bytes:
    return bytes(probing_inputs(generate(model.read_bytes()).input_bytes, 1, seed=11)[0])


@pytest.fixture(scope="session")
def qemu(model: Path, tmp_path_factory: pytest.TempPathFactory, zig_cache: Path) -> list[str]:
    """The command that boots the model's firmware; `-serial …` says where its console is."""
    board, tflite = image_board("cortex-m4"), model.read_bytes()
    work = tmp_path_factory.mktemp("firmware")
    compiled = compile_firmware(
        generate(tflite), board, model_digest=digest_of(tflite), workdir=work, cache_dir=zig_cache
    )
    (work / "board.elf").write_bytes(compiled.elf)
    return [
        *("qemu-system-arm", "-M", board.emulation.qemu_machine, "-cpu", board.emulation.qemu_cpu),
        *("-icount", "shift=6,align=off,sleep=off", "-display", "none", "-monitor", "none"),
        *("-kernel", str(work / "board.elf")),
    ]


@pytest.fixture
def board(qemu: list[str]) -> Iterator[int]:
    """The TCP port of a booted board's console."""
    port = _free_port()
    command = [*qemu, "-serial", f"tcp:127.0.0.1:{port},server=on,wait=off"]
    with subprocess.Popen(command) as process:
        try:
            yield port
        finally:
            process.kill()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])
