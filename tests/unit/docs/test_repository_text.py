"""What is committed refers to what exists, and to nothing of the machine it was written on."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[3]
SKIPPED_FOLDERS = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".edgeloop"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
INDEX_OPTION = re.compile(
    r"(^|\s)(--(extra-)?index-url|-i|--find-links|--trusted-host)[ =]\S|^\s*index-url\s*=", re.MULTILINE
)


def committed() -> list[Path]:
    """Return the files that git knows or would add; without git, all files outside of caches."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        found = [path for path in ROOT.rglob("*") if not SKIPPED_FOLDERS & set(path.relative_to(ROOT).parts)]
    else:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in found if path.is_file()]


FILES = committed()
PAGES = [path for path in FILES if path.suffix == ".md"]


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the committed files that are text."""
    for path in FILES:
        content = path.read_bytes()
        if b"\0" not in content:
            yield path, content.decode("utf-8", errors="replace")


def anchors(page: Path) -> set[str]:
    """Return the anchors that a forge gives to the headings of a page."""
    headings = re.findall(
        r"^#+\s+(.+?)\s*$",
        CODE.sub(lambda m: m[0] if m[0][0:3] != "```" else "", page.read_text("utf-8")),
        re.MULTILINE,
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_of_a_page_resolve(page: Path) -> None:
    broken = []
    for match in LINK.finditer(CODE.sub("", page.read_text("utf-8"))):
        target = unquote(match[1] or match[2])
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken, f"{page.relative_to(ROOT)}: nothing is at {', '.join(broken)}"


def test_locks_have_hashes_and_no_file_names_an_index() -> None:
    assert not [path for path in FILES if path.name == "uv.lock"]
    for path, text in texts():
        if path != Path(__file__):
            assert not INDEX_OPTION.search(text), f"{path.relative_to(ROOT)} names a package index"
    for lock in (ROOT / "requirements").glob("*.txt"):
        pins = re.findall(r"^[\w.\[\]-]+==", lock.read_text("utf-8"), re.MULTILINE)
        assert len(pins) <= lock.read_text("utf-8").count("--hash=sha256:")


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    own = re.compile(re.escape(str(ROOT)) + r"\b|/home/(?!edgeloop\b)\w+/|/Users/\w+/")
    found = [path.relative_to(ROOT).as_posix() for path, text in texts() if own.search(text)]
    assert not found


def test_every_decision_is_in_the_index_and_has_its_four_parts() -> None:
    folder = ROOT / "docs/adr"
    index = (folder / "README.md").read_text("utf-8")
    for record in folder.glob("[0-9]*.md"):
        text = record.read_text("utf-8")
        assert f"]({record.name})" in index, f"{record.name} is missing from docs/adr/README.md"
        assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:4] == ["Status", "Context", "Decision", "Consequences"]
