"""`edgeloop check` on a working tree, as a process: everything but TensorFlow, because the model is int8 already."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.sandbox.engines import Engine
from tests.integration.artifact_builder.sandboxes import IMAGE, require
from tests.support import ROOT

MODEL = ROOT / "tests" / "data" / "gestures" / "int8.tflite"
MANIFEST = """
version: 1
name: Gestures
labels: [up, down, still]
input: {shape: [20, 3], minimum: -9, maximum: 9}
data: {train: {path: train.npz}, test: {path: test.npz}}
model: {file: gestures.tflite}
boards: [cortex-m4]
gates: {accuracy: 0.0}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "gestures"
    folder.mkdir()
    shutil.copyfile(MODEL, folder / "gestures.tflite")
    (folder / "edgeloop.yaml").write_text(MANIFEST)
    for seed, name in enumerate(("train", "test")):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, 1, (90, 20, 3)).clip(-9, 9).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, y=np.arange(90) % 3, group=np.full(90, name))
    return folder


def process(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeloop", "check", str(tree), "--json", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "EDGELOOP_CACHE": str(tree.parent / "cache"), **environment}
    return subprocess.run(command, env=env, cwd=tree.parent, capture_output=True, text=True, timeout=240, check=False)


def check(tree: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = process(tree, *arguments, **environment)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def ran(report: dict[str, Any]) -> set[str]:
    return {timing["stage"] for timing in report["stages"] if not timing["cached"]} - {"manifest", "sign"}


def test_a_tree_that_passes_is_reported_kept_and_remembered(tree: Path, tmp_path: Path) -> None:
    code, report = check(tree, "--out", str(tmp_path / "out"))
    assert (code, report["passed"], report["failure"]) == (0, True, None), report
    [board] = report["boards"]
    assert 0 < board["arena_bytes"] < board["ram_bytes"] < board["flash_bytes"] < board["instructions"]
    assert board["modelled_latency_ms"] == pytest.approx(board["instructions"] * 1.2 / 64e6 * 1e3, abs=1e-3)
    assert {answer["name"] for answer in report["data"]} >= {"window-shape", "group-leakage"}
    assert {answer["name"] for answer in report["model"]} >= {"int8-accuracy", "golden-vector", "flash-cortex-m4"}
    kept = {file.name for file in (tmp_path / "out").rglob("*")}
    assert kept >= {"report.json", "cortex-m4.img", "cortex-m4.elf", "model-int8.tflite", "train.npz"}
    assert ran(report) == {"data", "train", "quantise", "generate", "compile"}

    (tree / "README.md").write_text("Changed")
    (tree / "edgeloop.yaml").write_text(MANIFEST + "budgets: {cortex-m4: {flash_bytes: 300000, latency_ms: 100}}\n")
    code, again = check(tree, "--out", str(tmp_path / "out"))
    assert (code, ran(again)) == (0, set())

    (tree / "edgeloop.yaml").write_text(MANIFEST + "budgets: {cortex-m4: {latency_ms: 0.001}}\n")
    code, slow = check(tree)
    assert code == 1
    assert "modelled (" in slow["failure"]["reason"]
    assert "budgets.cortex-m4.latency_ms" in slow["failure"]["reason"]

    (tree / "edgeloop.yaml").write_text(MANIFEST.replace("accuracy: 0.0", "accuracy: 1.0"))
    code, refused = check(tree)
    assert (code, refused["passed"], refused["failure"]) == (1, False, None)


def test_a_model_that_cannot_be_used_fails_with_its_stage(tree: Path) -> None:
    (tree / "gestures.tflite").write_bytes(MODEL.read_bytes()[:1000])
    code, report = check(tree)
    assert (code, report["failure"]["stage"], report["passed"]) == (1, "quantise", False)


@pytest.mark.parametrize("engine", list(Engine))
def test_the_sandbox_is_the_one_that_the_environment_asks_for(tree: Path, engine: Engine) -> None:
    require(engine)
    (tree / "prepare.py").write_text("import os; print('checked in', os.getcwd()); raise SystemExit(1)")
    (tree / "edgeloop.yaml").write_text(
        MANIFEST.replace("data: {", "data: {prepare: {command: [python, prepare.py]}, ")
    )
    image = os.environ.get(IMAGE, "")
    code, report = check(tree, EDGELOOP_SANDBOX=engine.value, EDGELOOP_SANDBOX_IMAGE=image)
    assert (code, report["sandbox"]) == (1, engine.value), report
    assert "checked in" in report["failure"]["last_lines"][0]


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ("gvisor", 2, "EDGELOOP_SANDBOX: Input should be 'auto', 'container', 'bubblewrap' or 'process'"),
        ("container", 3, "EDGELOOP_SANDBOX=container (container: EDGELOOP_SANDBOX_IMAGE names no image)"),
    ],
)
def test_a_sandbox_that_cannot_be_had_is_never_replaced(tree: Path, value: str, code: int, says: str) -> None:
    done = process(tree, EDGELOOP_SANDBOX=value, EDGELOOP_SANDBOX_IMAGE="")
    assert done.returncode == code, done.stderr
    assert says in " ".join((done.stdout + done.stderr).split())
