"""Eight emulated boards at once on two cores: every byte of every output is the reference's."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from services.artifact_builder.codegen import generate
from services.artifact_builder.measuring import probing_inputs
from shared.inference.tflm import tflm_outputs
from tests.support import ROOT

BOARDS, ROWS = 8, 3

NEEDS_QEMU = pytest.mark.skipif(
    which("qemu-system-arm") is None, reason="needs qemu-system-arm: apt-get install qemu-system-arm"
)


@pytest.mark.parametrize("emulator", ["unicorn", pytest.param("qemu", marks=NEEDS_QEMU)])
def test_boards_of_one_benchmark_share_its_inputs_and_lose_none(emulator: str, model: Path, tmp_path: Path) -> None:
    rows = probing_inputs(generate(model.read_bytes()).input_bytes, BOARDS * ROWS, seed=6)
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "y.npy", np.zeros(len(rows), np.int64))
    command = [
        *(sys.executable, "-m", "edgeloop", "bench", "mlperf-tiny", "--json", "--model", str(model)),
        *("--board", "cortex-m4", "--inputs", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "y.npy")),
        *("--boards", str(BOARDS), "--emulator", emulator, "--data", str(tmp_path / "data")),
        *("--outputs", str(tmp_path / "outputs.npy")),
    ]
    two = set(sorted(os.sched_getaffinity(0))[:2])
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, two),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inputs"] == len(rows)
    outputs = np.load(tmp_path / "outputs.npy")
    assert outputs.tolist() == tflm_outputs(model.read_bytes(), rows).reshape(len(rows), -1).tolist()
