"""Fetches one commit of a repository with git."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, run_limited

SCHEMES: Final = ("https", "ssh", "file")
_SCP_STYLE: Final = re.compile(r"^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!//)")
_NOT_THERE: Final = ("not our ref", "remote ref", "unadvertised object", "no such remote ref")
# Configuration that no repository may bring along: hooks, helpers of odd protocols, line endings by machine.
_CONFIGURATION: Final = (
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "advice.detachedHead=false",
    "gc.auto=0",
)


def scheme_of(url: str) -> str:
    """Return the URL's scheme; ``user@host:path`` is ssh, a plain path has none."""
    return "ssh" if _SCP_STYLE.match(url) else urlsplit(url).scheme


def without_secrets(url: str) -> str:
    """Return `url` without a password or token."""
    parts = urlsplit(url)
    if not parts.scheme or parts.username is None or parts.scheme == "ssh":
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def clone(url: str, commit: str, into: Path, *, limits: Limits, schemes: Collection[str] = SCHEMES) -> None:
    """Check `commit` out into `into`, which must not exist yet. Submodules are not fetched.

    Raises:
        AuthorError: the URL's scheme is not allowed, or the repository has no such commit.
        InfrastructureError: the repository did not answer.
    """
    if scheme_of(url) not in schemes:
        raise AuthorError(
            f"repository {without_secrets(url)}: scheme {scheme_of(url) or 'none'!r}; "
            f"allowed are {', '.join(schemes)}. Next: use such a URL at the forge, or extend EDGELOOP_URL_SCHEMES"
        )
    into.mkdir()  # noqa: ASYNC240 - one folder on a local disk
    git = _Git(url, into, limits, _environment(schemes))
    git.must(await git.run("init", "--quiet"))
    fetched = await git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", url, commit)
    if not fetched.succeeded:
        if not any(sign in line for line in fetched.last_lines for sign in _NOT_THERE):
            raise git.unreachable(fetched)
        # Older servers give only what a branch or tag points at: fetch those, whole, and look inside.
        heads = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        git.must(await git.run("fetch", "--quiet", "--no-tags", "--", url, *heads))
    if not (await git.run("cat-file", "-e", f"{commit}^{{commit}}")).succeeded:
        raise AuthorError(
            f"repository {without_secrets(url)} has no commit {commit} any more; a forced push may have replaced it. "
            "Next: push again"
        )
    git.must(await git.run("checkout", "--quiet", "--detach", commit))


class _Git:
    """git in one work tree, with one repository in mind."""

    def __init__(self, url: str, tree: Path, limits: Limits, environment: dict[str, str]) -> None:
        self._url = without_secrets(url)
        self._tree = tree
        self._limits = limits
        self._environment = environment

    async def run(self, *arguments: str) -> Ended:
        options = [part for setting in _CONFIGURATION for part in ("-c", setting)]
        return await run_limited(
            ["git", *options, *arguments], cwd=self._tree, environment=self._environment, limits=self._limits
        )

    def must(self, ended: Ended) -> None:
        if not ended.succeeded:
            raise self.unreachable(ended)

    def unreachable(self, ended: Ended) -> InfrastructureError:
        if ended.ending is Ending.NOT_STARTED:
            return InfrastructureError(
                f"git cannot be started: {ended.error}. Next: install git on the builder's machine"
            )
        said = f"no answer within {self._limits.wall_s:g} s" if ended.ending is Ending.TIMEOUT else _joined(ended)
        return InfrastructureError(f"repository {self._url} cannot be read: {said}")


def _joined(ended: Ended) -> str:
    return " / ".join(ended.last_lines[-5:]) or f"git ended with {ended.exit_code}"


def _environment(schemes: Collection[str]) -> dict[str, str]:
    """Keep git's own way to keys and credentials; it never asks, and never learns the builder's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGELOOP_", "GIT_"))}
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20",
        "GIT_ALLOW_PROTOCOL": ":".join(schemes),
    }
