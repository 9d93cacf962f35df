import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.caching.keys import key_of
from services.artifact_builder.errors import AuthorError
from services.artifact_builder.trees import Tree, expression

FILES = (
    "train.py",
    "lib/deep/net.py",
    "README.md",
    "lib/NOTES.md",
    "docs/guide.txt",
    "LICENSE",
    "data/LICENSE-DATA",
    ".gitignore",
    ".github/workflows/ci.yml",
    "edgeloop.yaml",
    "data/edgeloop.yaml",
    "mydocs/x.txt",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in (*FILES, ".git/HEAD"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(tree: Tree) -> set[str]:
    return {entry.path for entry in tree.entries}


def test_a_tree_has_every_file_but_gits_own(checkout: Path) -> None:
    assert names(Tree.of(checkout)) == set(FILES)


def test_a_step_sees_all_but_documentation_and_the_manifest(checkout: Path) -> None:
    seen = names(Tree.of(checkout).for_step("model.train", ()))
    assert seen == {"train.py", "lib/deep/net.py", "data/edgeloop.yaml", "mydocs/x.txt"}


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("train.py", {"train.py"}),
        ("lib", {"lib/deep/net.py", "lib/NOTES.md"}),
        ("lib/", {"lib/deep/net.py", "lib/NOTES.md"}),
        ("lib/*", {"lib/deep/net.py", "lib/NOTES.md"}),
        ("lib/*.md", {"lib/NOTES.md"}),
        ("**/*.py", {"train.py", "lib/deep/net.py"}),
        ("*.py", {"train.py"}),
        ("lib/**", {"lib/deep/net.py", "lib/NOTES.md"}),
        ("lib/**/net.py", {"lib/deep/net.py"}),
        ("??docs/x.txt", {"mydocs/x.txt"}),
        ("**", set(FILES)),
        ("train.p", set()),
        ("rain.py", set()),
    ],
)
def test_a_pattern_is_read_from_the_top(pattern: str, named: set[str], checkout: Path) -> None:
    assert names(Tree.of(checkout).matching([pattern])) == named


NAMES = st.text("ab", min_size=1, max_size=3)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
PATTERNS = st.lists(
    st.just("**") | st.text("ab*?", min_size=1, max_size=4).filter(lambda part: "**" not in part),
    min_size=1,
    max_size=5,
)


def takes(pattern: list[str], path: list[str]) -> bool:
    """Say the same as `expression`, by trying everything."""
    if not pattern:
        return True
    if not path:
        return False
    first, *rest = pattern
    if first == "**":
        return not rest or takes(rest, path) or takes(pattern, path[1:])
    return fnmatchcase(path[0], first) and takes(rest, path[1:])


@given(pattern=PATTERNS, path=PATHS)
def test_a_pattern_takes_what_trying_every_place_of_its_stars_takes(pattern: list[str], path: str) -> None:
    assert bool(re.match(expression("/".join(pattern)), path)) == takes(pattern, path.split("/"))


@pytest.mark.parametrize("pattern", ["**/" * 30 + "x", "*a" * 100 + "b", "**/*d/" * 40 + "x", "*/" * 60 + "x"])
def test_no_pattern_takes_long_over_any_path(pattern: str) -> None:
    """One that tried every place would not end while anybody waits."""
    for path in ("d/" * 99 + "d", "a" * 255, "/".join(["a" * 9] * 100)):
        assert re.match(expression(pattern), path) is None


def test_more_patterns_than_anybody_writes_are_refused(checkout: Path) -> None:
    with pytest.raises(AuthorError, match=r"tests\.inputs has 101 patterns; allowed are 100"):
        Tree.of(checkout).for_step("tests", ["train.py"] * 101)


def test_documentation_that_inputs_name_is_seen(checkout: Path) -> None:
    assert names(Tree.of(checkout).for_step("tests", ("README.md", "edgeloop.yaml"))) == {"README.md", "edgeloop.yaml"}


def test_a_pattern_that_names_nothing_is_an_error_with_its_place(checkout: Path) -> None:
    with pytest.raises(AuthorError, match=r"model\.train\.inputs\[1\]: 'trian\.py' names no file"):
        Tree.of(checkout).for_step("model.train", ("train.py", "trian.py"))


def test_a_link_out_of_the_repository_is_refused_and_one_inside_is_kept(checkout: Path, tmp_path: Path) -> None:
    (checkout / "lib" / "again.py").symlink_to("../train.py")
    Tree.of(checkout).for_step("model.train", ()).copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "lib" / "again.py").read_text() == "train.py"
    (checkout / "lib" / "out").symlink_to("../../secret")
    with pytest.raises(AuthorError, match=r"lib/out is a link to \.\./\.\./secret, outside of the repository"):
        Tree.of(checkout).for_step("model.train", ())


def test_what_a_link_leads_to_comes_with_it(checkout: Path) -> None:
    (checkout / "latest").symlink_to("data/2026")
    (checkout / "data" / "2026").symlink_to("../lib/deep")
    (checkout / "again").symlink_to("again")
    tree = Tree.of(checkout)
    assert names(tree.following(["latest"])) == {"latest", "data/2026", "lib/deep/net.py"}
    assert names(tree.following(["again", "train.py"])) == {"again", "train.py"}
    assert names(tree.for_step("model.train", ["latest"])) == {"latest", "data/2026", "lib/deep/net.py"}
    (checkout / "all").symlink_to(".")
    assert names(Tree.of(checkout).following(["all"])) == names(Tree.of(checkout))


def test_the_key_is_the_content_and_not_the_place_the_time_or_the_umask(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    Tree.of(checkout).copy_to(copy)
    (copy / "train.py").chmod(0o600)
    assert key_of(Tree.of(copy)) == key_of(Tree.of(checkout))
    (copy / "train.py").chmod(0o700)
    assert key_of(Tree.of(copy)) != key_of(Tree.of(checkout))


def test_documentation_changes_no_key_and_code_does(checkout: Path) -> None:
    def key() -> str:
        return key_of(Tree.of(checkout).for_step("model.train", ()))

    before = key()
    for name in ("README.md", "docs/guide.txt", "LICENSE", ".gitignore", "edgeloop.yaml"):
        (checkout / name).write_text("other")
    assert key() == before
    (checkout / "train.py").write_text("other")
    assert key() != before


def test_a_copy_has_the_same_modes_and_times_everywhere(checkout: Path, tmp_path: Path) -> None:
    (checkout / "train.py").chmod(0o711)
    (checkout / "lib").chmod(0o700)
    Tree.of(checkout).copy_to(tmp_path / "copy")
    found = {path.name: path.stat() for path in (tmp_path / "copy").rglob("*")}
    assert {oct(found[name].st_mode & 0o777) for name in ("train.py", "lib", "deep")} == {"0o755"}
    assert found["net.py"].st_mode & 0o777 == 0o644
    assert {found[name].st_mtime for name in ("train.py", "net.py")} == {315_532_800}
