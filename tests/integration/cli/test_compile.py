"""`edgeloop compile` as a user runs it: files on disk, figures that were counted, errors that say what to do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.measuring import probing_inputs
from shared.boards import image_board
from shared.emulation.on_unicorn import boot_unicorn
from shared.inference.tflm import tflm_outputs
from tests.support import ROOT

MODELS = ROOT / "tests" / "data" / "models"


def _edgeloop(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeloop", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _compiled(model: Path, out: Path, *more: str | Path) -> dict[str, Any]:
    done = _edgeloop(
        "compile", model, "--board", "cortex-m4", "--out", out, "--data", out.parent / "data", "--json", *more
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_model_becomes_c_an_elf_a_signed_image_and_a_report(tmp_path: Path) -> None:
    model, out = MODELS / "cnn_1d.tflite", tmp_path / "out"
    report = _compiled(model, out)
    assert json.loads((out / "report.json").read_text("utf-8")) == report
    assert {file.suffix for file in out.rglob("*")} >= {".c", ".h", ".elf", ".img", ".json"}
    for key in ("flash_bytes", "ram_bytes", "arena_bytes", "instructions"):
        assert isinstance(report[key], int)
        assert report[key] > 0
    assert report["numerics"] == "tflm"
    assert report["operators"]["CONV_2D"] >= 1
    rows = probing_inputs(_input_bytes(model), 4, seed=9)
    board = boot_unicorn((out / "firmware.img").read_bytes(), image_board("cortex-m4"))
    expected = tflm_outputs(model.read_bytes(), rows)
    assert [board.infer(row.tobytes()).output for row in rows] == [row.tobytes() for row in expected]


def _input_bytes(model: Path) -> int:
    from services.artifact_builder.codegen import generate

    return generate(model.read_bytes()).input_bytes


def test_litert_numerics_are_compared_with_litert(tmp_path: Path) -> None:
    report = _compiled(MODELS / "cnn_1d.tflite", tmp_path / "out", "--numerics", "litert")
    assert (report["numerics"], report["mismatches"]) == ("litert", 0)
    assert report["inputs"] > 0


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second):
        _compiled(MODELS / "dense.tflite", out)
    for file in (path for path in first.rglob("*") if path.is_file()):
        assert file.read_bytes() == (second / file.relative_to(first)).read_bytes(), file.name


def test_recorded_inputs_are_compared_one_by_one(tmp_path: Path) -> None:
    model, folder = MODELS / "dense.tflite", tmp_path / "inputs"
    folder.mkdir()
    for number, row in enumerate(np.random.default_rng(3).integers(-128, 128, (7, _input_bytes(model)), np.int8)):
        (folder / f"{number}.bin").write_bytes(row.tobytes())
    report = _compiled(model, tmp_path / "out", "--inputs", folder)
    assert (report["inputs"], report["mismatches"]) == (7, 0)


def test_a_truncated_model_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes((MODELS / "dense.tflite").read_bytes()[:200])
    done = _edgeloop("compile", broken, "--board", "cortex-m4", "--out", tmp_path / "out", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "broken.tflite" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_board_lists_those_there_are(tmp_path: Path) -> None:
    done = _edgeloop(
        "compile", MODELS / "dense.tflite", "--board", "cortex-m5", "--out", tmp_path, "--data", tmp_path / "data"
    )
    assert done.returncode == 2
    assert "cortex-m4" in done.stderr


@pytest.mark.parametrize("content", [b"my notes", b""])
def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_bytes(content)
    done = _edgeloop(
        "compile", MODELS / "dense.tflite", "--board", "cortex-m4", "--out", out, "--data", tmp_path / "data"
    )
    assert done.returncode == 2
    assert (out / "notes.txt").read_bytes() == content
