"""What a step leaves behind for a builder that is not root: shut, endless, in circles. Read, or named; then removed."""

import asyncio
import logging
from pathlib import Path

import pytest

from services.artifact_builder import steps
from services.artifact_builder.caching.keys import Files
from services.artifact_builder.errors import BuildFailureError
from services.artifact_builder.programs import Room, inside
from services.artifact_builder.sandbox.engines import Engine
from services.artifact_builder.sandbox.plain import PlainProcess
from services.artifact_builder.stages import Stages
from services.artifact_builder.steps import DataInputs, Script
from services.artifact_builder.tools import Tools
from services.artifact_builder.trees import Tree
from services.artifact_builder.workspace import remove_stale, workspace
from shared.events.artifact import BuildStage
from tests.integration.artifact_builder.nobody import as_nobody

SHUTS = """
import os
os.chdir(os.environ["EDGELOOP_OUTPUT_DIR"])
os.makedirs("deep/er")
for name in ("shut.csv", "deep/er/shut.csv"):
    with open(name, "w") as file: file.write("1,2")
    os.chmod(name, 0)
os.symlink("/etc/passwd", "link")
os.chmod("deep/er", 0o300)
os.chmod("deep", 0)
os.chmod(".", 0)
os.chmod(os.environ["HOME"], 0)
"""
DIGS = """
import os
os.chdir(os.environ["EDGELOOP_OUTPUT_DIR"])
for n in range({levels}):
    os.mkdir("d"); os.chdir("d")
open("bottom", "w").close()
"""
HIDES = """
import os
os.chdir(os.environ["EDGELOOP_OUTPUT_DIR"])
os.mkdir("shut", 0o300)
for n in range(8):
    with open(f"shut/{n}", "wb") as file: file.write(bytes(5_000_000))
"""


def prepared(code: str, work: Path, disk_bytes: int = 2**33) -> Files:
    """Run `code` as the step that prepares, in a workspace below `work` that is gone afterwards."""
    with workspace(work) as folder, Stages().stage(BuildStage.DATA):
        (folder / "checkout").mkdir()
        (folder / "checkout" / "prepare.py").write_text(code)
        tree = Tree.of(folder / "checkout")
        script = Script("data.prepare", ("python", "prepare.py"), tree, seed=1, timeout_s=60)
        inputs = DataInputs(script, "", Engine.PROCESS, Tree(tree.root, ()), (), (), ())
        tools = Tools(folder / "key.pem", folder / "cache", minimum_free_bytes=0, step_disk_bytes=disk_bytes)
        return asyncio.run(steps.prepare(inputs, Room.of(folder / "data", PlainProcess(), tools)))


def failure_of(code: str, work: Path, disk_bytes: int = 2**33) -> BuildFailureError:
    with pytest.raises(BuildFailureError) as caught:
        prepared(code, work, disk_bytes)
    assert "Next: " in caught.value.reason
    return caught.value


def test_what_a_step_shut_is_read_as_any_other_and_removed() -> None:
    def work(folder: Path) -> None:
        assert prepared(SHUTS, folder) == {"left/shut.csv": b"1,2", "left/deep/er/shut.csv": b"1,2"}
        assert not list(folder.iterdir())

    as_nobody(work)


@pytest.mark.parametrize("levels", [90, 700, 2200])
def test_folders_nested_too_deep_are_named_and_removed(levels: int) -> None:
    """At 700 Python ends its own recursion, at 2,200 a path is longer than the kernel takes."""

    def work(folder: Path) -> None:
        if levels == 90:
            assert prepared(DIGS.format(levels=levels), folder) == {"left/" + "d/" * levels + "bottom": b""}
        else:
            says = {700: "or than 100 folders", 2200: "nested folders without end"}[levels]
            assert says in failure_of(DIGS.format(levels=levels), folder).reason
        assert not list(folder.iterdir())

    as_nobody(work)


def test_what_is_hidden_in_a_shut_folder_counts_as_well() -> None:
    def work(folder: Path) -> None:
        failed = failure_of(HIDES, folder, disk_bytes=20_000_000)
        assert "MiB on the disk, and was ended; allowed are 19 MiB" in failed.reason
        assert not list(folder.iterdir())

    as_nobody(work)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("open(b'\\xff.csv', 'w').close()", "data.prepare left \\udcff.csv: the path is not UTF-8"),
        ("open('a\\nb', 'w').close()", "data.prepare left a\\nb: the path has a control character"),
        ("[open(f'{n}', 'w').truncate(2**30) for n in range(3)]", "3,221,225,472 bytes, 1,073,741,824 of them in 0"),
    ],
)
def test_what_cannot_be_kept_is_named(code: str, says: str, tmp_path: Path) -> None:
    code = f"import os; os.chdir(os.environ['EDGELOOP_OUTPUT_DIR']); {code}"
    assert says in failure_of(code, tmp_path).reason


def test_more_files_than_can_be_kept_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAXIMUM_LEFT_FILES", 3)
    code = "import os; [open(os.environ['EDGELOOP_OUTPUT_DIR'] + f'/{n}', 'w').close() for n in range(4)]"
    assert "data.prepare left 4 files; allowed are 3" in failure_of(code, tmp_path).reason


def test_a_link_in_a_circle_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    assert inside(tmp_path, "loop.npz") is None


def test_a_workspace_that_cannot_be_removed_is_said_and_the_next_one_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def work(folder: Path) -> None:
        caplog.set_level(logging.ERROR)
        folder = folder / "work"
        with workspace(folder) as stuck:
            (stuck / "file").touch()
            folder.chmod(0o500)  # what is in it can go, and it itself cannot
        assert stuck.exists()
        assert f"workspace {stuck} cannot be removed" in caplog.text
        assert "Permission denied" in caplog.text
        assert remove_stale(folder) == []
        folder.chmod(0o700)
        assert prepared("pass", folder) == {}
        assert remove_stale(folder) == [stuck.name]
        assert not list(folder.iterdir())

    as_nobody(work)
