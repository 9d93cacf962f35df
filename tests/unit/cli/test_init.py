import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from edgeloop.cli import app, execute
from edgeloop.initialising import SCHEMA_NAME
from shared.releases.manifest_loader import load_manifest


def write_dataset(file: Path, classes: int = 3) -> None:
    rows = 6
    x = np.linspace(-1.93, 1.21, rows * 64 * 3).reshape(rows, 64, 3).astype(np.float32)
    file.parent.mkdir(exist_ok=True)
    np.savez(file, x=x, y=np.arange(rows) % classes, group=np.arange(rows))


@pytest.fixture
def fan(tmp_path: Path) -> Path:
    folder = tmp_path / "fan"
    folder.mkdir()
    write_dataset(folder / "data" / "train.npz")
    write_dataset(folder / "data" / "test.npz")
    (folder / "train.py").touch()
    (folder / "LICENSE").write_text("MIT License\n\nCopyright\n")
    return folder


def run(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(app, ["init", *arguments], input=answers)


def test_without_questions_what_the_folder_says_becomes_a_manifest(fan: Path) -> None:
    done = run(str(fan), "--yes")
    assert done.exit_code == 0, done.output
    manifest = load_manifest(fan)
    assert (manifest.name, manifest.labels) == ("fan", ("class-0", "class-1", "class-2"))
    assert (manifest.input.shape, manifest.input.minimum, manifest.input.maximum) == ((64, 3), -2.0, 1.3)
    assert (manifest.data.prepare, manifest.data.train.path, manifest.data.test.path) == (
        None,
        "data/train.npz",
        "data/test.npz",
    )
    assert manifest.model.train is not None
    assert manifest.model.train.command == ("python", "train.py")
    assert (manifest.boards, manifest.licences.code) == (("cortex-m4",), "MIT")


def test_answers_that_cannot_be_read_are_asked_for_again(fan: Path) -> None:
    answers = "Fan condition\noff\noff on wild\n\ncortex-m5\ncortex-m4 cortex-m7\n2\n0.9\n"
    done = run(str(fan), answers=answers)
    assert done.exit_code == 0, done.output
    manifest = load_manifest(fan)
    assert (manifest.name, manifest.labels) == ("Fan condition", ("off", "on", "wild"))
    assert (manifest.boards, manifest.gates.accuracy) == (("cortex-m4", "cortex-m7"), 0.9)
    assert "no board of the catalogue" in done.output
    assert "at least two labels" in done.output


def test_options_answer_before_anybody_is_asked(fan: Path) -> None:
    (fan / "fan.tflite").touch()
    options = ["--name", "x: y", "--label", "off", "--label", "1", "--shape", "64x3", "--model", "fan.tflite"]
    done = run(str(fan), *options, "--board", "cortex-m0plus", "--accuracy", "0.7", "--yes")
    assert done.exit_code == 0, done.output
    manifest = load_manifest(fan)
    assert (manifest.name, manifest.labels, manifest.model.file) == ("x: y", ("off", "1"), "fan.tflite")
    assert manifest.model.train is None


def test_the_first_line_names_a_schema_that_lies_beside_it_and_takes_the_file(fan: Path) -> None:
    run(str(fan), "--yes")
    text = (fan / "edgeloop.yaml").read_text()
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={SCHEMA_NAME}"
    schema = json.loads((fan / SCHEMA_NAME).read_text())
    Draft202012Validator(schema).validate(YAML(typ="safe").load(text))


def test_a_manifest_is_never_written_over_without_being_told_to(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fan / "edgeloop.yaml").write_text("mine")
    assert execute(["init", str(fan), "--yes"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (fan / "edgeloop.yaml").read_text() == "mine"
    assert run(str(fan), "--yes", "--force").exit_code == 0
    assert load_manifest(fan)


def test_a_folder_that_says_nothing_is_an_error_that_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["init", str(tmp_path), "--yes"]) == 2
    said = capsys.readouterr().err
    assert "the folder does not say" in said
    assert "--label" in said


def test_what_is_written_is_said_as_json(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["init", str(fan), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"] == str(fan / "edgeloop.yaml")
