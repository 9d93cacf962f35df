"""Repositories that mean harm, made with git itself: refused before anything of them is read or run."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact_builder.errors import AuthorError
from services.artifact_builder.harmless import Allowance
from services.artifact_builder.sandbox.processes import Limits
from services.artifact_builder.source import clone, require_harmless_folder
from tests.support import git

LIMITS = Limits(wall_s=60)
SMALL = Allowance(files=50, total_bytes=3_000_000)
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"

Fill = Callable[[Path], object]


async def refused(repository: Path, commit: str, allowed: Allowance = SMALL) -> AuthorError:
    into = repository.with_name("checkout")
    with pytest.raises(AuthorError) as caught:
        await clone(repository.as_uri(), commit, into, limits=LIMITS, allowed=allowed)
    assert "Next: " in caught.value.reason
    return caught.value


def committed(folder: Path, fill: Fill) -> tuple[Path, str]:
    repository = folder / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    (repository / "edgeloop.yaml").write_text("version: 1")
    fill(repository)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=Change")
    return repository, git(repository, "rev-parse", "HEAD")


def raw_tree(repository: Path, *entries: tuple[str, bytes, str]) -> str:
    """Write a tree object as git itself would refuse to."""
    data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(digest) for mode, name, digest in entries)
    command = ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    done = subprocess.run(command, cwd=repository, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


def commit_of(repository: Path, tree: str) -> str:
    commit = git(repository, "commit-tree", tree, "-m", "Change")
    git(repository, "update-ref", "refs/heads/hostile", commit)
    return commit


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (lambda top: (top / "edgeloop.yaml.bak").symlink_to("/etc/shadow"), "symbolic link to /etc/shadow"),
        (lambda top: (top / "up").symlink_to("../../../secret"), "leaves the repository"),
        (lambda top: (top / "config").symlink_to(".git/config"), "goes into .git"),
        (lambda top: (top / "train.npz").write_text(LFS), "train.npz is a Git LFS pointer"),
        (lambda top: [(top / f"{n}.csv").touch() for n in range(60)], "61 files or more; allowed are 50"),
    ],
)
async def test_what_git_checks_out_without_a_word_is_refused(fill: Fill, says: str, tmp_path: Path) -> None:
    assert says in (await refused(*committed(tmp_path, fill))).reason


async def test_a_submodule_is_named(tmp_path: Path) -> None:
    repository, commit = committed(tmp_path, lambda _: None)
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib/dsp")
    git(repository, "commit", "--quiet", "--message=Add")
    assert "lib/dsp is a submodule" in (await refused(repository, git(repository, "rev-parse", "HEAD"))).reason


@pytest.mark.parametrize(
    ("name", "says"), [(b"..", "'..'"), (b".git", ".git"), (b"a\nb", "control character"), (b".GiT", ".git")]
)
async def test_a_path_that_leads_elsewhere_never_reaches_the_disk(name: bytes, says: str, tmp_path: Path) -> None:
    repository, _ = committed(tmp_path, lambda _: None)
    blob = git(repository, "hash-object", "-w", "edgeloop.yaml")
    inner = raw_tree(repository, ("100644", b"evil", blob))
    error = await refused(repository, commit_of(repository, raw_tree(repository, ("40000", name, inner))))
    assert says in error.reason
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(("mode", "name"), [("100644", "GIT~1"), ("120000", ".gitmodules")])
async def test_a_path_that_git_itself_refuses_is_named(mode: str, name: str, tmp_path: Path) -> None:
    repository, _ = committed(tmp_path, lambda _: None)
    blob = git(repository, "hash-object", "-w", "edgeloop.yaml")
    error = await refused(repository, commit_of(repository, raw_tree(repository, (mode, name.encode(), blob))))
    assert error.reason.startswith(f"{name}: git refuses the path")


async def test_names_that_only_some_machines_tell_apart_are_both_named(tmp_path: Path) -> None:
    repository, _ = committed(tmp_path, lambda _: None)
    blob = git(repository, "hash-object", "-w", "edgeloop.yaml")
    tree = raw_tree(repository, *(("100644", name, blob) for name in (b"Data.csv", b"data.csv")))
    error = await refused(repository, commit_of(repository, tree))
    assert error.reason.startswith("Data.csv and data.csv are one path")


async def test_a_file_that_is_a_folder_as_well_never_reaches_the_disk(tmp_path: Path) -> None:
    repository, _ = committed(tmp_path, lambda _: None)
    blob = git(repository, "hash-object", "-w", "edgeloop.yaml")
    inner = raw_tree(repository, ("100644", b"evil", blob))
    tree = raw_tree(repository, ("120000", b"data", blob), ("40000", b"data", inner))
    error = await refused(repository, commit_of(repository, tree))
    assert error.reason.startswith("data is a file, and data/evil makes it a folder")


async def test_a_few_kilobytes_that_unpack_to_gigabytes_are_not_unpacked(tmp_path: Path) -> None:
    repository, commit = committed(tmp_path, lambda top: (top / "zeros.bin").write_bytes(bytes(50_000_000)))
    assert "50,000,010 bytes checked out, 50,000,000 of them in zeros.bin" in (await refused(repository, commit)).reason
    assert not (tmp_path / "checkout" / "zeros.bin").exists()


async def test_a_repository_too_large_to_fetch_is_stopped_on_its_way(tmp_path: Path) -> None:
    allowed = Allowance(files=50, total_bytes=1_000_000)
    repository, commit = committed(tmp_path, lambda top: (top / "noise.bin").write_bytes(os.urandom(150_000_000)))
    assert "1,000,000 bytes" in (await refused(repository, commit, allowed)).reason


async def test_a_tree_of_trees_of_trees_is_refused_without_being_walked_to_its_end(tmp_path: Path) -> None:
    repository, _ = committed(tmp_path, lambda _: None)
    tree = git(repository, "hash-object", "-w", "edgeloop.yaml")
    mode = "100644"
    for _ in range(10):  # ten to the power of ten files, in ten objects
        tree, mode = raw_tree(repository, *((mode, b"%d" % n, tree) for n in range(10))), "40000"
    assert "50 files or more; allowed are 50" in (await refused(repository, commit_of(repository, tree))).reason


async def test_filters_that_would_fetch_from_a_server_of_the_repository_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text(f'[filter "lfs"]\n smudge = touch {tmp_path}/ran\n required = true\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "gitconfig").rename(tmp_path / ".gitconfig")

    def fill(top: Path) -> None:
        (top / ".gitattributes").write_text("docs/* filter=lfs\n")
        (top / "docs").mkdir()
        (top / "docs" / "photo.png").write_text(LFS)

    repository, commit = committed(tmp_path, fill)
    await clone(repository.as_uri(), commit, tmp_path / "checkout", limits=LIMITS, allowed=SMALL)
    assert (tmp_path / "checkout" / "docs" / "photo.png").read_text() == LFS
    assert not (tmp_path / "ran").exists()


async def test_an_honest_repository_with_links_of_its_own_is_checked_out(tmp_path: Path) -> None:
    def fill(top: Path) -> None:
        (top / "data").mkdir()
        (top / "data" / "2026.csv").write_text("1,2")
        (top / "latest.csv").symlink_to("data/2026.csv")

    repository, commit = committed(tmp_path, fill)
    await clone(repository.as_uri(), commit, tmp_path / "checkout", limits=LIMITS, allowed=SMALL)
    assert (tmp_path / "checkout" / "latest.csv").read_text() == "1,2"


def test_a_folder_of_the_authors_may_hold_a_pipe_and_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.npz")
    with pytest.raises(AuthorError, match=r"train\.npz is a device, pipe or socket"):
        require_harmless_folder(tmp_path, SMALL)
