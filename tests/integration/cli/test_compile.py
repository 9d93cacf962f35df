"""`edgeloop compile` as a user runs it: files on disk, figures that were counted, errors that say what to do."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.artifact_builder.firmware.signing import generate_key
from services.artifact_builder.measuring import probing_inputs
from shared.artifacts.keys import KeyAlgorithm, PublicKey, load_public_key
from shared.artifacts.verify import verify_directory
from shared.boards import image_board
from shared.emulation.on_unicorn import boot_unicorn
from shared.events import CheckOutcome
from shared.inference.tflm import tflm_outputs
from tests.support import ROOT
from tests.tflite_models import AS_AFTER_TRAINING_ON_ZEROS

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
    for key in ("flash_bytes", "model_flash_bytes", "ram_bytes", "arena_bytes", "instructions"):
        assert isinstance(report[key], int)
        assert report[key] > 0
    assert report["weights_bytes"] < report["model_flash_bytes"] < report["flash_bytes"]
    for key in ("latency_ms", "energy_uj"):
        assert report[key] > 0
        assert report[f"{key}_class"] == "modelled"
    assert f"{report['instructions']:,} instructions x 1.2 cycles at 64 MHz, ± 30%" in report["latency_ms_basis"]
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


def test_a_model_over_which_the_reference_aborts_is_refused_by_name(tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.tflite"
    hostile.write_bytes(AS_AFTER_TRAINING_ON_ZEROS)
    done = _edgeloop("compile", hostile, "--board", "cortex-m4", "--out", tmp_path / "out", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "hostile.tflite: TFLM ends with signal 6 (SIGABRT) on model sha256:" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


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


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compilation that no test changes for good; its stack's folder is `data` beside it."""
    out = tmp_path_factory.mktemp("compiled") / "out"
    _compiled(MODELS / "dense.tflite", out)
    return out


def _trusted(compiled: Path) -> tuple[PublicKey, ...]:
    return (load_public_key(compiled.parent / "data" / "keys" / "signing.pub.pem"),)


def _failed(directory: Path, trusted: tuple[PublicKey, ...]) -> dict[str, str]:
    checks = verify_directory(directory, trusted)
    return {check.name: check.observed for check in checks if check.outcome is not CheckOutcome.PASSED}


def test_what_was_compiled_verifies_as_written_and_not_after_one_flipped_byte(compiled: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(compiled, tmp_path / "copy"))
    verify = ("artifact", "verify", copy, "--data", compiled.parent / "data")
    assert (done := _edgeloop(*verify)).returncode == 0, done.stdout
    assert (shown := _edgeloop("artifact", "show", copy)).returncode == 0, shown.stderr
    assert "firmware.img" in shown.stdout
    _flip_a_byte(copy / "model" / "weights.c", random.Random(1))
    assert (done := _edgeloop(*verify)).returncode == 1
    assert "model/weights.c" in done.stdout


def _flip_a_byte(file: Path, choose: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    file.write_bytes(content)


def test_one_flipped_byte_in_any_file_is_found(compiled: Path) -> None:
    trusted, choose = _trusted(compiled), random.Random(2)
    assert _failed(compiled, trusted) == {}
    files = sorted(path for path in compiled.rglob("*") if path.is_file())
    assert {"index.json", "oci-layout", "provenance.dsse.json", "link.ld"} <= {file.name for file in files}
    for file in files:
        whole = file.read_bytes()
        _flip_a_byte(file, choose)
        assert _failed(compiled, trusted), file
        file.write_bytes(whole)
    assert _failed(compiled, trusted) == {}


def _move(directory: Path) -> None:
    (directory / "firmware.elf").rename(directory / "firmware.axf")


def _truncate(directory: Path) -> None:
    (directory / "firmware.img").write_bytes((directory / "firmware.img").read_bytes()[:-1])


def _relabel(directory: Path) -> None:
    """Say that it is a release, everywhere it is said."""
    index = json.loads((directory / "index.json").read_bytes())
    [named] = index["manifests"]
    blob = directory / "blobs" / "sha256" / named["digest"].removeprefix("sha256:")
    manifest = blob.read_bytes().replace(b"vnd.edgeloop.compilation.", b"vnd.edgeloop.release.")
    blob.unlink()
    digest = hashlib.sha256(manifest).hexdigest()
    (blob.parent / digest).write_bytes(manifest)
    named |= {
        "artifactType": "application/vnd.edgeloop.release.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(manifest),
    }
    (directory / "index.json").write_text(json.dumps(index, separators=(",", ":")), "utf-8")


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (lambda directory: (directory / "kernels" / "pad.c").unlink(), "files"),
        (lambda directory: (directory / "kernels" / "more.c").write_bytes(b""), "files"),
        (lambda directory: (directory / "notes").mkdir(), "files"),
        (_move, "files"),
        (_truncate, "titled-files"),
        (_relabel, "release-index"),
    ],
)
def test_a_file_added_removed_renamed_or_cut_is_found(
    compiled: Path, tmp_path: Path, tamper: Callable[[Path], object], check: str
) -> None:
    copy = Path(shutil.copytree(compiled, tmp_path / "copy"))
    tamper(copy)
    assert check in _failed(copy, _trusted(compiled))


def test_what_a_key_of_ones_own_signed_is_trusted_by_its_public_half_alone(compiled: Path, tmp_path: Path) -> None:
    private, public, out = tmp_path / "own.pem", tmp_path / "own.pub.pem", tmp_path / "out"
    generate_key(private, public, KeyAlgorithm.ECDSA_P256)
    _compiled(MODELS / "dense.tflite", out, "--key", private)
    assert _failed(out, (load_public_key(public),)) == {}
    failed = _failed(out, _trusted(compiled))
    assert "trusted are" in failed["signature"]
    assert "no trusted key signed the image" in failed["image"]


def test_a_later_compilation_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _compiled(MODELS / "cnn_1d.tflite", out)
    report = _compiled(MODELS / "dense.tflite", out)
    assert json.loads((out / "report.json").read_text("utf-8")) == report
    assert _failed(out, _trusted(out)) == {}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "data"}


def test_a_board_whose_tools_no_registry_has_gets_a_library_and_the_reason(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    board = ("--board", "arduino-nano-33-ble-sense", "--out", out, "--data", data)
    done = _edgeloop("compile", MODELS / "cnn_1d.tflite", *board, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads((out / "report.json").read_text("utf-8")) == report
    assert (report["kind"], report["board"], report["numerics"]) == ("library", "arduino-nano-33-ble-sense", "tflm")
    assert 0 < report["weights_bytes"] < report["flash_bytes"]
    assert 0 < report["arena_bytes"] <= report["ram_bytes"]
    assert report["instructions"] is None
    assert "running an image" in report["not_measured"]
    assert "Arduino's board index" in report["reason"]
    [library] = report["libraries"]
    assert "arduino-cli compile" in (out / library["folder"] / "README.md").read_text("utf-8")
    with zipfile.ZipFile(out / library["archive"]) as archive:
        unpacked = {
            str(file.relative_to((out / library["folder"]).parent)): file.read_bytes()
            for file in (out / library["folder"]).rglob("*")
            if file.is_file()
        }
        assert {name: archive.read(name) for name in archive.namelist()} == unpacked
    assert _failed(out, _trusted(out)) == {}
    _flip_a_byte(out / library["archive"], random.Random(4))
    assert "titled-files" in _failed(out, _trusted(out))


def test_a_core_that_nothing_compiles_for_leaves_sizes_open(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    board = ("--board", "espressif-esp-eye", "--out", out, "--data", data)
    done = _edgeloop("compile", MODELS / "dense.tflite", *board, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["flash_bytes"], report["ram_bytes"], report["toolchain"]) == (None, None, "")
    assert report["not_measured"].startswith("No compiler for xtensa-lx6")
    assert _failed(out, _trusted(out)) == {}


def test_a_library_is_not_compiled_with_another_toolchain(tmp_path: Path) -> None:
    board = ("--board", "arduino-nano-33-ble-sense", "--out", tmp_path / "out", "--data", tmp_path / "data")
    done = _edgeloop("compile", MODELS / "dense.tflite", *board, "--toolchain", "gcc")
    assert done.returncode == 2
    assert "gets a library" in done.stderr
