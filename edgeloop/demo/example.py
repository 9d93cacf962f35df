"""The repository that the demo pushes, and the scripts in it that a data team would run."""

import asyncio
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import edgeloop
from edgeloop.errors import InfrastructureError, UsageError
from edgeloop.git import git, isolated_environment

NAME: Final = "exercise-recognition"
SCRIPT_DEADLINE_S: Final = 120.0
BRANCH: Final = "main"
COMMITTED_AT: Final = "2026-01-01T00:00:00Z"
"""Fixed, so that the demo's commit, and with it everything built from it, is the same every time."""


@dataclass(frozen=True, slots=True)
class Repositories:
    """A bare repository that people push to, and a clone to push from."""

    bare: Path
    checkout: Path


def example_directory() -> Path:
    """Return where the example is.

    Raises:
        UsageError: this installation has none.
    """
    place = Path(edgeloop.__file__).parent.parent / "examples" / NAME
    if not (place / "edgeloop.yaml").is_file():
        raise UsageError(
            f"{place}: the example is not there; the demo needs it",
            next_step="run the demo from a clone of the Edgeloop repository: `make demo`",
        )
    return place


def make_repositories(directory: Path) -> Repositories:
    """Make a bare repository and a clone of it with the example committed, not yet pushed.

    Raises:
        InfrastructureError: git failed.
    """
    found = Repositories(bare=directory / f"{NAME}.git", checkout=directory / NAME)
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet", "--bare", "--initial-branch", BRANCH, str(found.bare))
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", "*.npz", "*.keras", ".git")
    shutil.copytree(example_directory(), found.checkout, ignore=ignored)
    git(found.checkout, "init", "--quiet", "--initial-branch", BRANCH)
    git(found.checkout, "remote", "add", "origin", str(found.bare))
    git(found.checkout, "add", "--all")
    dates = {"GIT_AUTHOR_DATE": COMMITTED_AT, "GIT_COMMITTER_DATE": COMMITTED_AT}
    git(found.checkout, "commit", "--quiet", "--message", "Recognise exercises from a smartwatch", extra=dates)
    return found


async def push(repositories: Repositories) -> str:
    """Push the branch and return what git and the hook said.

    Raises:
        InfrastructureError: git failed.
    """
    return await asyncio.to_thread(git, repositories.checkout, "push", "origin", BRANCH)


async def run_script(repositories: Repositories, script: str, output: Path) -> None:
    """Run one of the example's scripts, which takes the file it writes.

    Raises:
        InfrastructureError: it failed or took too long; with its last lines.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, script, str(output)),
        cwd=repositories.checkout,
        env=isolated_environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), SCRIPT_DEADLINE_S)
    except TimeoutError as error:
        raise InfrastructureError(f"{script} did not end within {SCRIPT_DEADLINE_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = "\n".join(said.decode(errors="replace").splitlines()[-8:])
        raise InfrastructureError(f"{script} ended with exit code {process.returncode} and says:\n{last}")
