"""The code that a stage runs, as a digest: its modules, and all of ours that they import, found by reading them."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
_OURS: Final = frozenset({"services", "shared", "firmware"})


@cache
def code_digest(roots: tuple[str, ...], folders: tuple[str, ...] = ()) -> str:
    """Return the digest of modules, of all that they import, and of every file of some folders.

    Args:
        roots: names of modules; ``name.*`` is a package with all its modules.
        folders: of files that are not Python, from the top of the installation.
    """
    files = [*modules_of(roots).values(), *_files_in(folders)]
    lines = [f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def modules_of(roots: Sequence[str]) -> dict[str, Path]:
    """Return every module of ours that importing `roots` can run, by name. Imports inside functions count."""
    found: dict[str, Path] = {}
    waiting = [name for root in roots for name in _expanded(root)]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if name in found or file is None:
            continue
        found[name] = file
        waiting += [name.rpartition(".")[0], *_imports(file, name)]
    return found


def _expanded(root: str) -> Iterable[str]:
    package, _, rest = root.rpartition(".")
    if rest != "*":
        return [root]
    return [package, *(f"{package}.{file.stem}" for file in sorted(ROOT.joinpath(*package.split(".")).glob("*.py")))]


def _file_of(name: str) -> Path | None:
    """Return the file of a module of ours; None for anything else, a function of a module included."""
    if not name or name.partition(".")[0] not in _OURS:
        return None
    place = ROOT.joinpath(*name.split("."))
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _imports(file: Path, name: str) -> Iterator[str]:
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files_in(folders: Iterable[str]) -> Iterator[Path]:
    for folder in folders:
        yield from (
            file
            for file in (ROOT / folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".md"
        )
