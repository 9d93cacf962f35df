import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.releases.manifest_loader import MAXIMUM_BYTES, ManifestError, Problem, load_manifest, parse_manifest

VALID = """\
version: 1
name: Gestures
labels: [up, down]
input:
  shape: [100, 6]
  minimum: -1
  maximum: 1
data:
  prepare: {command: [python, prepare.py]}
  train: {path: train.npz}
  test: {path: test.npz}
model:
  train: {command: [python, train.py], timeout_s: 60}
boards: [cortex-m4]
gates:
  accuracy: 0.8
"""

YAML_SIGNS = "&*!|>'\"%@`#?:,-[]{}<=0x1e.~\n\t \\\0"


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text)
    return caught.value.problems


def test_the_defaults_fill_what_is_left_out() -> None:
    manifest = parse_manifest(VALID)
    assert manifest.release == "1.0.0"
    assert manifest.model.path == "model.keras"
    assert manifest.rollout.stages[-1].percent == 100


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("accuracy:", "acuracy:", 16, "gates.acuracy", "write accuracy"),
        ("accuracy: 0.8", "accuracy: high", 16, "gates.accuracy", "a number"),
        ("accuracy: 0.8", "accuracy: 1.8", 16, "gates.accuracy", "less than or equal to 1"),
        ("boards: [cortex-m4]\n", "", 1, "boards", "required"),
        ("[cortex-m4]", "[cortex-m44]", 14, "boards[0]", "write cortex-m4"),
        ("[cortex-m4]", "[esp32]", 14, "boards[0]", "one of arduino-mkr-wifi-1010, "),
        ("[cortex-m4]", "[cortex-m4, cortex-m4]", 14, "boards[1]", "each name once"),
        ("[python, train.py]", "python train.py", 13, "model.train.command", "write [python, train.py]"),
        ("[up, down]", "[1, down]", 3, "labels[0]", 'in quotes: "1"'),
        ("[up, down]", "[up]", 3, "labels", "at least 2 entries"),
        ("version: 1", "version: 2", 1, "version", "allowed is 1"),
        ("[100, 6]", "[100, 0]", 5, "input.shape[1]", "greater than 0"),
        ("[100, 6]", "[100, 6]\n  channels: [ax]", 6, "input.channels", "6, the last axis"),
        ("minimum: -1", "minimum: 2", 6, "input.minimum", "below input.maximum"),
        ("timeout_s: 60", "timeout_s: soon", 13, "model.train.timeout_s", "a number"),
        ("path: test.npz", "path: ../test.npz", 11, "data.test.path", "inside"),
        ("name: Gestures", "name: Gestures\nname: Again", 3, "", "each key once"),
        ("path: test.npz", "path: test.csv", 11, "data.test.path", "a name that ends in .npz"),
        ("path: test.npz", "path: train.npz", 11, "data.test.path", "each dataset once"),
        ("path: test.npz", "path: test.npz, role: synthetic", 11, "data.test.role", "measure a test set"),
        (
            "path: test.npz}",
            "path: test.npz}\n  more: [{path: test.npz}]",
            12,
            "data.more[0].path",
            "each dataset once",
        ),
        ("timeout_s: 60}", "timeout_s: 60}\n  path: model.pt", 14, "model.path", "SavedModel is a folder"),
        (
            "timeout_s: 60}\nboards: [cortex-m4]\ngates:",
            "timeout_s: 60}\n  path: m.tflite\nboards: [cortex-m4]\ngates:\n  agreement: 0.9",
            17,
            "gates.agreement",
            "gates.accuracy judges the int8 model",
        ),
        ("[up, down]", "[up, down", 4, "", "syntax error"),
        ("  accuracy:", "\taccuracy:", 16, "", "tabs cannot indent"),
        ("gates:", "budgets: {cortex-m7: {flash_bytes: 9}}\ngates:", 15, "budgets.cortex-m7", "a name from boards"),
        ("gates:", "budgets: {cortex-m4: {flash: 9}}\ngates:", 15, "budgets.cortex-m4.flash", "write flash_bytes"),
        (
            "gates:",
            "rollout:\n  stages:\n    - {name: all, devices: 2, percent: 100}\ngates:",
            17,
            "rollout.stages[0]",
            "exactly one of them",
        ),
        ("gates:", "rollout: {stages: [{name: a, percent: 50}]}\ngates:", 15, "rollout.stages[0]", "whole fleet"),
        ("gates:", "licences:\n  data: CC-BY-4\ngates:", 16, "licences.data", "did you mean CC-BY-4.0?"),
        ("gates:", "licences: {code: MIT OR}\ngates:", 15, "licences.code", "an SPDX expression"),
        ("name: Gestures", "name: Gestures\nrelease: 256.0.0", 3, "release", "at most 255.255.65535"),
        ("name: Gestures", "name: Gestures\nsecurity_counter: -1", 3, "security_counter", "greater than or equal to 0"),
    ],
)
def test_a_problem_names_its_line_its_key_and_what_to_do(old: str, new: str, line: int, key: str, says: str) -> None:
    assert old in VALID
    found = problems(VALID.replace(old, new, 1))
    matching = [problem for problem in found if problem.key == key]
    assert [problem.line for problem in matching] == [line], found
    assert says in matching[0].describe("edgeloop.yaml")
    assert matching[0].describe("edgeloop.yaml").startswith(f"edgeloop.yaml:{line}: ")


def test_every_problem_is_said_at_once_in_the_order_of_the_file() -> None:
    text = VALID.replace("0.8", "high").replace("version: 1", "version: x").replace("[up, down]", "up")
    assert [problem.key for problem in problems(text)] == ["version", "labels", "gates.accuracy"]


@pytest.mark.parametrize(
    "scalar",
    ["2026-13-45", "!!int many", "!!float many", "0x_", "9" * 5000, "!!omap 3", "&a [*a]", "? {? {a: b} : c} : d"],
)
def test_what_yaml_makes_nothing_of_is_a_problem_of_the_file(scalar: str) -> None:
    assert problems(f"{VALID}x: {scalar}\n")[0].describe("edgeloop.yaml").startswith("edgeloop.yaml:")


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("name: Gestures", 'name: "a\\0b"', 2, "name", "found the character U+0000"),
        ("name: Gestures", 'name: "\\e[31m"', 2, "name", "found the character U+001B"),
        ("prepare.py]", '"\\ud800"]', 9, "data.prepare.command[1]", "found the character U+D800"),
        ("name: Gestures", '"\\0": 1\nname: Gestures', 1, "", "found the character U+0000"),
        ("prepare.py]", "x" * 5000 + "]", 9, "data.prepare.command[1]", "found 5,000 characters"),
    ],
)
def test_text_that_no_program_takes_is_refused_with_its_place(
    old: str, new: str, line: int, key: str, says: str
) -> None:
    [problem] = problems(VALID.replace(old, new, 1))
    assert (problem.line, problem.key) == (line, key)
    assert says in problem.describe("edgeloop.yaml")


@given(cuts=st.lists(st.tuples(st.integers(0, len(VALID)), st.integers(0, 9), st.text(YAML_SIGNS, max_size=4))))
def test_a_manifest_that_was_damaged_anywhere_is_read_or_named(cuts: list[tuple[int, int, str]]) -> None:
    text = VALID
    for at, length, other in cuts:
        text = text[:at] + other + text[at + length :]
    with contextlib.suppress(ManifestError):
        parse_manifest(text)


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "null\n"])
def test_a_document_that_is_no_mapping_is_said_so(text: str) -> None:
    assert problems(text)[0].allowed == "a mapping of keys to values"


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases" in problems("\n".join(lines))[0].found


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "edgeloop.yml").write_text(VALID)
    with pytest.raises(ManifestError, match=r"only edgeloop\.yml"):
        load_manifest(tmp_path)


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "edgeloop.yaml").symlink_to("/etc/hostname")
    with pytest.raises(ManifestError, match="a regular file"):
        load_manifest(tmp_path)


def test_a_huge_file_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "edgeloop.yaml").write_bytes(b"#" * (MAXIMUM_BYTES + 1))
    with pytest.raises(ManifestError, match="at most"):
        load_manifest(tmp_path)


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    (tmp_path / "edgeloop.yaml").write_bytes(b"version: 1\nname: \xff\n")
    with pytest.raises(ManifestError, match=r"edgeloop\.yaml:2: found byte 0xff; allowed is UTF-8"):
        load_manifest(tmp_path)


def test_the_examples_manifest_is_valid() -> None:
    manifest = load_manifest(Path(__file__).parents[3] / "examples" / "exercise-recognition")
    assert manifest.input.shape == (100, 6)
