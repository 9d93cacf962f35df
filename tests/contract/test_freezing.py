"""`write`, `check` and `freeze` in a folder of their own, with git history and without."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeloop.contracts import __main__ as command
from edgeloop.contracts import freeze
from edgeloop.contracts.freeze import FROZEN_PATH, Frozen
from edgeloop.contracts.render import render
from tests.support import git

ROOT = Path(__file__).parents[2]
BUILT = "proto/events/artifact.built.v1.json"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with what the contract is rendered from, rendered once; it has no services to describe."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "proto/edgeloop", tmp_path / "proto/edgeloop")
    assert command.main(["write"], root=tmp_path) == 0
    return tmp_path


def rewrite_baseline(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Pretend that the release had frozen another schema of `artifact.built`."""
    schemas = json.loads(json.dumps(render(root).schemas))
    change(schemas[BUILT])
    (root / FROZEN_PATH).write_text(freeze.render(Frozen("0.0.9", schemas)), encoding="utf-8")


def with_another_field(schema: dict[str, Any]) -> None:
    schema["$defs"]["ArtifactBuilt"]["properties"]["gone_by_now"] = {"type": "string"}


def without_a_field(schema: dict[str, Any]) -> None:
    del schema["$defs"]["ArtifactBuilt"]["properties"]["stages"]


def test_what_was_just_written_passes(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check"], root=copy) == 0
    assert "nothing is frozen yet" in capsys.readouterr().out


def test_a_generated_file_that_differs_is_shown_as_a_diff(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / BUILT
    path.write_text(path.read_text("utf-8").replace('"boolean"', '"string"'), encoding="utf-8")
    (copy / "proto/openapi.yaml").unlink()
    assert command.main(["check"], root=copy) == 1
    said = capsys.readouterr().err
    assert f"--- {BUILT} (committed)" in said
    assert '-          "type": "string"' in said
    assert '+          "type": "boolean"' in said
    assert "proto/openapi.yaml: is missing" in said
    assert said.endswith("next: make schemas\n")


def test_a_file_that_nothing_renders_any_more_is_named_and_removed(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = copy / "proto/events/a.forgotten.v1.json"
    left.write_text("{}", encoding="utf-8")
    assert command.main(["check"], root=copy) == 1
    assert "a.forgotten.v1.json: nothing renders it any more" in capsys.readouterr().err
    assert command.main(["write"], root=copy) == 0
    assert not left.exists()


def test_a_release_freezes_every_schema_and_the_wire_format(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["freeze"], root=copy) == 0
    frozen = freeze.parse((copy / FROZEN_PATH).read_text("utf-8"))
    assert frozen.schemas == render(copy).schemas
    assert "proto/edgeloop/telemetry/v1/telemetry.proto" in frozen.schemas
    capsys.readouterr()
    assert command.main(["check"], root=copy) == 0
    assert "no git history here" in capsys.readouterr().out


def test_what_differs_from_the_code_is_not_frozen(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / BUILT).write_text("{}", encoding="utf-8")
    assert command.main(["freeze"], root=copy) == 1
    assert BUILT in capsys.readouterr().err
    assert not (copy / FROZEN_PATH).exists()


def test_an_optional_addition_since_the_release_passes(copy: Path) -> None:
    rewrite_baseline(copy, without_a_field)
    assert command.main(["check"], root=copy) == 0
    assert command.main(["freeze"], root=copy) == 0, "the next release freezes the addition too"


@pytest.mark.parametrize("verb", ["check", "write", "freeze"])
def test_a_break_of_what_is_frozen_is_refused_by_every_command(
    copy: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_baseline(copy, with_another_field)
    before = {path: path.read_bytes() for path in (copy / "proto").rglob("*") if path.is_file()}
    assert command.main([verb], root=copy) == 1
    assert f"{BUILT}: $.data.gone_by_now: was removed or renamed" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (copy / "proto").rglob("*") if path.is_file()}


def test_a_baseline_edited_by_hand_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["freeze"], root=copy) == 0
    path = copy / FROZEN_PATH
    path.write_text(path.read_text("utf-8").replace('"title":"dev.edgeloop', '"title":"edgeloop', 1), encoding="utf-8")
    assert command.main(["check"], root=copy) == 1
    assert "was edited by hand" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("git"), reason="needs git: install it with the system's package manager")
def test_a_baseline_that_was_changed_along_with_the_code_is_caught_by_history(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_baseline(copy, with_another_field)
    git(copy, "init", "--quiet")
    git(copy, "add", ".")
    git(copy, "commit", "--quiet", "--message", "Release")
    (copy / FROZEN_PATH).unlink()
    assert command.main(["freeze"], root=copy) == 0, "the new baseline agrees with the code"
    capsys.readouterr()
    assert command.main(["check"], root=copy) == 1
    assert "$.data.gone_by_now: was removed or renamed" in capsys.readouterr().err
    git(copy, "checkout", "--quiet", FROZEN_PATH)
    rewrite_baseline(copy, without_a_field)
    git(copy, "commit", "--quiet", "--all", "--amend", "--message", "Release")
    assert command.main(["check"], root=copy) == 0
    assert "HEAD" in capsys.readouterr().out


def test_a_service_without_a_place_for_its_table_is_named_and_holds_nothing_else_up(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = copy / "services/source_webhook"
    service.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        (service / name).touch()
    (copy / BUILT).unlink()
    assert command.main(["write"], root=copy) == 1
    assert "services/source_webhook/README.md: needs one line <!-- generated:events -->" in capsys.readouterr().err
    assert (copy / BUILT).exists()
    (service / "README.md").write_text("<!-- generated:events -->\n<!-- /generated -->\n", encoding="utf-8")
    assert command.main(["write"], root=copy) == 0
    assert "SourcePushed" in (service / "README.md").read_text("utf-8")
    assert command.main(["check"], root=copy) == 0
