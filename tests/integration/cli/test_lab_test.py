"""`edgeloop lab test` as a user runs it: every procedure, verdicts as exit codes, reports, errors with a next step."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgeloop.cli import execute
from edgeloop.lab.results import sign, verified_results
from shared.lab import VerdictKind
from shared.procedures.table import PROCEDURES
from shared.releases.histograms import quantise
from tests.data.gestures.release import FOLDER, quantisation, recordings
from tests.support import ROOT

MODEL = FOLDER / "int8.tflite"
ROWS = 30
MANIFEST = """
version: 1
name: Gestures
labels: [slow, medium, fast]
input: {shape: [20, 3], channels: [x, y, z], minimum: -9, maximum: 9}
data: {train: {path: train.npz}, test: {path: test.npz}}
model: {file: gestures.tflite}
boards: [cortex-m4]
gates: {accuracy: 0.9}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key and the compiler's cache of all tests here."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Options that give inputs and their classes."""
    folder, dataset = tmp_path_factory.mktemp("recordings"), recordings(ROWS, 5, "a")
    np.save(folder / "x.npy", quantise(dataset.x, quantisation("input")))
    np.save(folder / "y.npy", dataset.y)
    return ["--inputs", folder / "x.npy", "--labels", folder / "y.npy"]


def lab_test(subject: Path, data: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "edgeloop", "lab", "test", str(subject), "--board", "cortex-m4", "--json",
               "--data", str(data), *map(str, arguments)]  # fmt: skip
    environment = {**os.environ, "EDGELOOP_CACHE": str(data / "cache"), "XDG_CACHE_HOME": str(data / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_every_procedure_passes_on_sound_firmware(procedure: str, data: Path, known: list[str | Path]) -> None:
    code, found = lab_test(MODEL, data, "--procedure", procedure, *known, "--inferences", "40", "--reset-every", "15")
    assert (code, found["verdict"], found["passed"], found["procedure"]) == (0, "passed", True, procedure)
    assert {check["outcome"] for check in found["checks"]} == {"passed"}
    assert found["emulator"].startswith("unicorn ")
    assert found["instructions"] > 1512
    assert (found["latency_ms_class"], found["energy_uj_class"]) == ("modelled", "modelled")


def test_firmware_that_reads_sensors_is_seen_to_do_so(data: Path) -> None:
    _, found = lab_test(MODEL, data)
    assert [check["name"] for check in found["checks"]] == ["model-cortex-m4", "golden-cortex-m4", "sensors-cortex-m4"]


def test_a_trace_is_cut_into_windows_that_overlap(data: Path, known: list[str | Path]) -> None:
    code, found = lab_test(MODEL, data, "--procedure", "playback", *known[:2], "--rows", "4", "--hop", "30")
    assert (code, found["figures"]["windows"]) == (0, 7)


def test_curves_are_written_for_each_sensor(data: Path, known: list[str | Path], tmp_path: Path) -> None:
    code, found = lab_test(MODEL, data, "--procedure", "variability", *known, "--rows", "9", "--sensor", "imu=0,1",
                           "--sensor", "other=2", "--curves", tmp_path / "curves")  # fmt: skip
    assert (code, found["figures"]["inputs"]) == (0, 9)
    names = sorted(file.name for file in (tmp_path / "curves").iterdir())
    assert names == ["imu.csv", "imu.svg", "other.csv", "other.svg"]
    assert {point["sensor"] for point in found["figures"]["points"]} == {"imu", "other"}


def test_a_gate_that_is_not_reached_is_exit_code_1_and_a_failure_for_jenkins(
    data: Path, known: list[str | Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "wrong.npy", (np.load(str(known[-1])) + 1) % 3)
    code, found = lab_test(MODEL, data, "--procedure", "acceptance", *known[:2], "--labels", tmp_path / "wrong.npy",
                           "--accuracy", "0.9", "--junit", tmp_path / "out" / "report.xml")  # fmt: skip
    assert (code, found["verdict"]) == (1, "failed")
    assert [check["name"] for check in found["checks"] if check["outcome"] != "passed"] == ["accuracy-cortex-m4"]
    root = ET.parse(tmp_path / "out" / "report.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(len(found["checks"])), "1", "0")


def test_a_repository_is_built_and_tested_on_its_own_test_set(data: Path, tmp_path: Path) -> None:
    tree = tmp_path / "gestures"
    tree.mkdir()
    (tree / "gestures.tflite").write_bytes(MODEL.read_bytes())
    (tree / "edgeloop.yaml").write_text(MANIFEST)
    for seed, name in enumerate(("train", "test")):
        dataset = recordings(90, seed, name)
        np.savez(tree / f"{name}.npz", x=dataset.x, y=dataset.y, group=dataset.group)
    code, found = lab_test(tree, data, "--procedure", "acceptance")
    assert (code, found["project"], found["figures"]["inputs"]) == (0, "gestures", 90)
    assert "accuracy-cortex-m4" in {check["name"] for check in found["checks"]}
    code, found = lab_test(tree, data, "--procedure", "playback", "--rows", "5")
    assert (code, found["figures"]["windows"]) == (0, 5)
    code, found = lab_test(tree, data, "--accuracy", "0.1")
    assert (code, "--accuracy: a release is tested on its own test set" in found["error"]) == (2, True)
    (tree / "edgeloop.yaml").write_text(MANIFEST.replace("cortex-m4", "cortex-m7"))
    code, found = lab_test(tree, data)
    assert (code, found["error"]) == (2, "--board cortex-m4: the release has firmware for cortex-m7")
    (tree / "gestures.tflite").write_bytes(MODEL.read_bytes()[:1000])
    code, found = lab_test(tree, data)
    assert (code, "no release: quantise: " in found["error"]) == (1, True)


def test_a_signed_result_is_what_a_later_test_is_held_against(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "results" / "first.json", tmp_path / "second.json"
    code, _ = lab_test(MODEL, data, "--result", first)
    assert code == 0
    code, found = lab_test(MODEL, data, "--against", first, "--result", second)
    gate = found["checks"][-1]
    assert (code, gate["name"], gate["outcome"]) == (0, "instructions-history", "passed")
    assert "(+0.000%)" in gate["observed"]
    assert execute(["result", "history", str(first), str(second), "--data", str(data)]) == 0
    lighter = _with_instructions(first, data, found["instructions"] * 998 // 1000)
    code, found = lab_test(MODEL, data, "--against", lighter, "--result", second)
    assert (code, found["verdict"], found["checks"][-1]["outcome"]) == (1, "failed", "failed")
    [kept] = verified_results([second], [], data)
    assert kept.verdict is VerdictKind.FAILED
    first.write_bytes(first.read_bytes().replace(b'"sig":"', b'"sig":"AAAA', 1))
    code, found = lab_test(MODEL, data, "--against", first)
    assert (code, "first.json" in found["error"]) == (1, True)


def _with_instructions(signed: Path, data: Path, instructions: int) -> Path:
    """Sign the same result with another count."""
    [result] = verified_results([signed], [], data)
    changed = signed.with_name("changed.json")
    changed.write_bytes(sign(dataclasses.replace(result, instructions=instructions), data))
    return changed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--procedure", "acceptance"], "no inputs of known classes"),
        (["--board", "espressif-esp-eye"], "nothing emulates it"),
        (["--board", "none"], "no board is called 'none'"),
        (["--curves", "curves"], "--curves: a smoke test has none"),
        (["--procedure", "variability", "--sensor", "imu=7", "KNOWN"], "--sensor imu: no channel 7"),
        (["--hop", "3"], "--hop: a smoke test plays no trace"),
        (["--procedure", "playback", "--hop", "999"], "a window of 60 bytes moves on by 1 to 60 bytes, not by 999"),
    ],
)
def test_what_is_missing_or_wrong_is_said(arguments: list[str], said: str, data: Path, known: list[str | Path]) -> None:
    given = [word for argument in arguments for word in (known if argument == "KNOWN" else [argument])]
    code, found = lab_test(MODEL, data, *given)
    assert code == 2
    assert said in found["error"]
