"""The parts of `edgeloop check` that build nothing."""

from pathlib import Path

import pytest

from edgeloop.checking import NO_COMMIT, copy_working_tree, slug, state_of
from edgeloop.cli import execute
from tests.support import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "lib").mkdir(parents=True)
    for name in ("a.py", "lib/b.py", "gone.py"):
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("*.npz\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=Add")
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_a_working_tree_is_copied_as_it_is_without_what_git_ignores(repository: Path, tmp_path: Path) -> None:
    (repository / "a.py").write_text("changed")
    (repository / "new.py").touch()
    (repository / "ignored.npz").touch()
    (repository / "gone.py").unlink()
    (repository / "link.py").symlink_to("a.py")
    copy_working_tree(repository, tmp_path / "copy")
    assert files(tmp_path / "copy") == {"a.py", "lib/b.py", "new.py", "link.py", ".gitignore"}
    assert (tmp_path / "copy" / "a.py").read_text() == "changed"
    assert (tmp_path / "copy" / "link.py").is_symlink()
    commit, uncommitted = state_of(repository)
    assert (commit, uncommitted) == (git(repository, "rev-parse", "HEAD"), ("a.py", "gone.py", "link.py", "new.py"))


def test_a_folder_inside_a_repository_is_copied_alone(repository: Path, tmp_path: Path) -> None:
    copy_working_tree(repository / "lib", tmp_path / "copy")
    assert files(tmp_path / "copy") == {"b.py"}


def test_a_folder_that_is_in_no_repository_is_copied_without_caches(tmp_path: Path) -> None:
    for name in ("a.py", "__pycache__/a.pyc", ".venv/x", "lib/b.py"):
        (tmp_path / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / name).touch()
    copy_working_tree(tmp_path / "plain", tmp_path / "copy")
    assert files(tmp_path / "copy") == {"a.py", "lib/b.py"}
    assert state_of(tmp_path / "plain") == (NO_COMMIT, ())


@pytest.mark.parametrize(("name", "project"), [("Fan 2", "fan-2"), ("...", "project"), ("a" * 80, "a" * 63)])
def test_a_project_is_named_after_its_folder(name: str, project: str) -> None:
    assert slug(name) == project


def test_problems_of_a_manifest_are_named_with_file_line_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgeloop.yaml").write_text("version: 1\nname: x\nboardz: []\n")
    monkeypatch.chdir(tmp_path)
    assert execute(["check", "."]) == 2
    assert "edgeloop.yaml:3: boardz: found an unknown key" in capsys.readouterr().err


def test_a_folder_without_a_manifest_is_told_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", str(tmp_path)]) == 2
    assert f"edgeloop init {tmp_path}" in capsys.readouterr().err


def test_what_no_check_wrote_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert execute(["check", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "not empty, and no earlier report" in capsys.readouterr().err
