"""`edgeloop bench mlperf-tiny --port` on real firmware, at every kind of port, and with an instrument in its supply."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.codegen import generate
from services.artifact_builder.measuring import probing_inputs
from shared.inference.tflm import tflm_outputs
from tests.energy_instruments import SilentInstrument, SimulatedLpm01a, SimulatedPpk2
from tests.serial_ports import Rfc2217Server
from tests.support import ROOT

INPUTS = 3
IDLE_A, ACTIVE_A = 1e-3, 4e-3
LEVELS = np.repeat([False, True, False], 2000)
AMPERES = np.where(LEVELS, ACTIVE_A, IDLE_A)

pytestmark = pytest.mark.skipif(
    which("qemu-system-arm") is None, reason="needs qemu-system-arm: apt-get install qemu-system-arm"
)


@pytest.fixture
def terminal(qemu: list[str]) -> Iterator[str]:
    """The pseudo terminal that a booted board's console is at."""
    process = subprocess.Popen([*qemu, "-serial", "pty"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"redirected to (\S+)", said)
        assert found, said
        yield found[1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def recordings(model: Path, tmp_path: Path) -> Path:
    """Inputs whose labels are the reference's own answers."""
    rows = probing_inputs(generate(model.read_bytes()).input_bytes, INPUTS, seed=12)
    answers = np.argmax(tflm_outputs(model.read_bytes(), rows).reshape(INPUTS, -1), axis=1)
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        (tmp_path / f"{number}_{answer}.bin").write_bytes(row.tobytes())
    return tmp_path


def bench(model: Path, recordings: Path, port: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [
        *(sys.executable, "-m", "edgeloop", "bench", "mlperf-tiny", "--json", "--model", str(model)),
        *("--board", "cortex-m4", "--inputs", str(recordings), "--port", port, "--window-s", "0.05", *arguments),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def require_bits(code: int, found: dict[str, Any]) -> None:
    assert code == 0, found
    assert (found["inputs"], found["mismatches"], found["accuracy"]) == (INPUTS, 0, 1.0)


@pytest.mark.parametrize("loading", ["hex", "binary"])
def test_a_board_at_a_terminal_device_gives_the_references_bits(
    terminal: str, model: Path, recordings: Path, loading: str
) -> None:
    code, found = bench(model, recordings, terminal, "--loading", loading)
    require_bits(code, found)
    assert found["ran_on"] == f"edgeloop at {terminal}"


def test_a_board_behind_a_terminal_server_gives_the_references_bits(board: int, model: Path, recordings: Path) -> None:
    with Rfc2217Server(f"socket://127.0.0.1:{board}") as server:
        require_bits(*bench(model, recordings, server.url))
        assert server.clients == 1


def test_energy_by_a_trigger_pin_is_measured_and_names_the_instrument(
    terminal: str, model: Path, recordings: Path
) -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument:
        code, found = bench(model, recordings, terminal, "--energy", f"ppk2:{instrument.path}")
    require_bits(code, found)
    assert found["energy_uj_class"] == "measured"
    basis = re.fullmatch(rf"PPK2 at {instrument.path}: (\d+) inferences in 1 windows, .*", found["energy_uj_basis"])
    assert basis, found["energy_uj_basis"]
    joules = ACTIVE_A * 3.3 * 20e-3
    assert found["energy_uj"] == pytest.approx(joules * 1e6 / int(basis[1]), rel=5e-3)
    assert found["energy_phases"]["pre"]["energy_uj"] == pytest.approx(IDLE_A * 3.3 * 20e-3 * 1e6, rel=5e-3)
    assert 0 < found["energy_net_uj"] < found["energy_uj"]


def test_an_instrument_without_a_pin_that_sees_no_window_is_named(terminal: str, model: Path, recordings: Path) -> None:
    # All of its samples come at once, before the first mark: the window between the marks is empty.
    with SimulatedLpm01a([IDLE_A] * 500, rate_hz=10_000) as instrument:
        code, found = bench(model, recordings, terminal, "--energy", f"lpm01a:{instrument.path}?rate=10k")
    assert code == 3
    assert "--energy window 1 has no sample" in found["error"]


def test_something_else_at_the_instruments_port_is_named_before_the_board_is_asked(
    model: Path, recordings: Path
) -> None:
    with SilentInstrument() as instrument:
        code, found = bench(model, recordings, "socket://127.0.0.1:1", "--energy", f"ppk2:{instrument.path}")
    assert code == 3
    assert "a PPK2 tells its calibration when asked" in found["error"]


@pytest.mark.parametrize("meter", ["oscilloscope:1", "ppk2:port?colour=red"])
def test_an_instrument_that_does_not_exist_is_bad_input(model: Path, recordings: Path, meter: str) -> None:
    code, found = bench(model, recordings, "socket://127.0.0.1:1", "--energy", meter)
    assert code == 2
    assert f"--energy {meter}" in found["error"]
