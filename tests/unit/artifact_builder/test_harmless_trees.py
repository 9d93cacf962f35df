import os
import tempfile
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.harmless import Allowance, Entry, Kind, entries_of_listing, problems

ALLOWED = Allowance(files=5, total_bytes=1000)


def link(path: str, target: str) -> Entry:
    return Entry(path, Kind.LINK, target=target)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([link("secrets", "/etc/shadow")], "secrets is a symbolic link to /etc/shadow, which is absolute"),
        ([link("a/b/up", "../../../x")], "a/b/up is a symbolic link to ../../../x, which leaves the repository"),
        ([link("deep/er/top", "../.."), link("out", "deep/er/top/../x")], "out is a symbolic link"),
        ([link("a", "b"), link("b", "a")], "leads in a circle"),
        ([link("config", ".git/config")], "goes into .git"),
        ([Entry("lib/dsp", Kind.SUBMODULE)], "lib/dsp is a submodule, and submodules are not fetched"),
        ([Entry("fifo", Kind.SPECIAL)], "fifo is a device, pipe or socket"),
        ([Entry("../evil", Kind.FILE)], "the path has a part that is empty, '.' or '..'"),
        ([Entry("/etc/passwd", Kind.FILE)], "the path is absolute"),
        ([Entry("a/.GIT/hooks/post-checkout", Kind.FILE)], "the path goes into .git"),
        ([Entry("a\x1b[2Jb", Kind.FILE)], "a\\x1b[2Jb: the path has a control character"),
        ([Entry("Data.csv", Kind.FILE), Entry("data.csv", Kind.FILE)], "Data.csv and data.csv are one path"),
        ([Entry("Data/a", Kind.FILE), Entry("x", Kind.FILE), Entry("data/b", Kind.FILE)], "Data and data are one path"),
        ([Entry("DATA", Kind.FILE), Entry("data/b", Kind.FILE)], "DATA and data are one path"),
        ([link("Data", "x"), Entry("data/b", Kind.FILE)], "Data and data are one path"),
        ([Entry("café", Kind.FILE), Entry("cafe\u0301", Kind.FILE)], "cafe\\u0301 and caf\\xe9 are one path"),
        ([Entry("é/1", Kind.FILE), Entry("E\u0301/2", Kind.FILE)], "é and E\u0301 are one path"),
        ([Entry("a", Kind.FILE), Entry("a", Kind.FILE)], "a is there twice"),
        ([Entry("a/b", Kind.FILE), Entry("a", Kind.FILE)], "a is a file, and a/b makes it a folder"),
        ([Entry("..\\x", Kind.FILE)], "..\\x: the path has a backslash, which is a slash on Windows"),
        ([Entry("data/\udcff.csv", Kind.FILE)], "data/\\udcff.csv: the path is not UTF-8"),
        ([Entry("ü" * 128, Kind.FILE)], "the path has a name longer than 255 bytes"),
        ([Entry("d/" * 100 + "x", Kind.FILE)], "the path is longer than 1,024 bytes, or than 100 folders"),
        ([Entry("/".join(["n" * 200] * 6), Kind.FILE)], "the path is longer than 1,024 bytes"),
        ([Entry("train.npz", Kind.FILE, 130, is_lfs_pointer=True)], "train.npz is a Git LFS pointer, not the data"),
        ([Entry(str(n), Kind.FILE) for n in range(6)], "6 files or more; allowed are 5"),
        (
            [Entry("a", Kind.FILE, 900), Entry("b", Kind.FILE, 101)],
            "1,001 bytes checked out, 900 of them in a; allowed",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_the_next_step(entries: list[Entry], says: str) -> None:
    [first, *_] = problems(entries, ALLOWED)
    assert says in first
    assert "Next: " in first


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("prepare.py", Kind.FILE, 10), Entry("data/a b/ü.csv", Kind.FILE, 10)],
        [link("latest", "data/2026"), Entry("data/2026/x", Kind.FILE)],
        [link("a/b/c", "../../d")],
        [link("gone", "not/there")],
        [link("here", ".")],
        [Entry("data/Data", Kind.FILE), Entry("data/other", Kind.FILE), Entry("dat", Kind.FILE)],
        [Entry("a/b", Kind.FILE), Entry("a.b", Kind.FILE), Entry("a-b", Kind.FILE), Entry("a/c/d", Kind.FILE)],
        [Entry("docs/photo.png", Kind.FILE, 130, is_lfs_pointer=True)],
        [Entry(".github/x", Kind.FILE), Entry(".gitattributes", Kind.FILE), Entry("a..b/...", Kind.FILE)],
    ],
)
def test_what_honest_repositories_hold_is_allowed(entries: list[Entry]) -> None:
    assert problems(entries, ALLOWED) == []


def test_of_very_many_problems_a_few_are_told() -> None:
    many = [Entry(f"m{n}", Kind.SUBMODULE) for n in range(500)]
    assert len(problems(many, Allowance())) == 10


NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=5).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


SPELLINGS = st.lists(st.sampled_from(["a", "A", "b", "é", "e\u0301", "É"]), min_size=1, max_size=3).map("/".join)


def as_a_mac_has_it(path: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


@given(paths=st.lists(SPELLINGS, max_size=6))
def test_what_is_allowed_is_the_same_tree_on_every_file_system(paths: list[str]) -> None:
    places = {as_a_mac_has_it(path) for path in paths}
    folders = {parent for path in paths for parent in map(str, PurePosixPath(path).parents) if parent != "."}
    is_the_same = (
        len(places) == len(paths)
        and len({as_a_mac_has_it(folder) for folder in folders}) == len(folders)
        and not places & {as_a_mac_has_it(folder) for folder in folders}
    )
    assert (problems([Entry(path, Kind.FILE) for path in paths], Allowance()) == []) == is_the_same


@given(links=st.dictionaries(PATHS, TARGETS, max_size=5))
def test_a_link_that_is_allowed_stays_inside_as_the_kernel_follows_it(links: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "outer" / "middle" / "more" / "repository"
        made = {}
        for path, target in links.items():
            place = top / path
            if any(parent.is_symlink() for parent in place.parents) or place.exists():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
            made[path] = target
        for path in made:
            inside = os.path.realpath(top / path) == str(top) or os.path.realpath(top / path).startswith(f"{top}/")
            wrong = problems([link(name, target) for name, target in made.items()], Allowance())
            if not wrong:
                assert inside, (path, made)


@given(size=st.integers(0, 10**12), path=st.text(st.characters(exclude_characters="\0/"), min_size=1).filter(str.strip))
def test_a_listing_of_git_is_read_as_it_was_written(size: int, path: str) -> None:
    raw = path.encode(errors="surrogateescape") if path.isprintable() else b"plain"
    listing = b"100644 blob %040d %7d\t%s\x00160000 commit %040d       -\tsub\x00" % (1, size, raw, 2)
    found = list(entries_of_listing(listing))
    assert found == [Entry(os.fsdecode(raw), Kind.FILE, size), Entry("sub", Kind.SUBMODULE)]
