"""What was frozen in earlier commits: the baseline in the tree may have been edited along with the code."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeloop.contracts.freeze import FROZEN_PATH, Frozen, FrozenError, parse

_UPSTREAM: Final = ("origin/HEAD", "origin/main", "main")


@dataclass(frozen=True, slots=True)
class Baseline:
    """The frozen schemas of a commit, and what it is to the working tree."""

    revision: str
    role: str
    frozen: Frozen


def baselines(root: Path) -> list[Baseline]:
    """Return what was frozen at HEAD, at its parent and where the branch left the main line; empty without history.

    A commit from before the first freeze has no baseline and is left out, and so is one whose baseline was damaged.
    """
    found: dict[str, Baseline] = {}
    for role, revision in _revisions(root):
        text = _git(root, "show", f"{revision}:{FROZEN_PATH}")
        if text is None or revision in found:
            continue
        try:
            found[revision] = Baseline(revision[:10], role, parse(text, where=f"{revision[:10]}:{FROZEN_PATH}"))
        except FrozenError:
            continue
    return list(found.values())


def _revisions(root: Path) -> Iterator[tuple[str, str]]:
    for upstream in _UPSTREAM:
        base = _git(root, "merge-base", "HEAD", upstream)
        if base:
            yield f"merge base with {upstream}", base.strip()
            break
    for name in ("HEAD^", "HEAD"):
        revision = _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if revision:
            yield name, revision.strip()


def _git(root: Path, *arguments: str) -> str | None:
    """Return git's output; none when there is no git, no repository here, or nothing by that name."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words and revisions that git gave
            ["git", "-C", str(root), *arguments],  # noqa: S607 - whichever git the developer uses
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
