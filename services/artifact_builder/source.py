"""Fetches one commit of a repository with git."""

import asyncio
import os
import re
import signal
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.harmless import (
    Allowance,
    Entry,
    entries_of_folder,
    entries_of_listing,
    problems,
    too_many_files,
)
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, Order, run_limited

SCHEMES: Final = ("https", "ssh", "file")
_SCP_STYLE: Final = re.compile(r"^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!//)")
_NOT_THERE: Final = ("not our ref", "remote ref", "unadvertised object", "no such remote ref")
_INVALID_PATH: Final = re.compile(r"^error: invalid path '(.*)'$")
_NO_SUCH_OBJECT: Final = "Not a valid object name"
# Configuration that no repository may bring along: hooks, helpers of odd protocols, line endings by machine.
_CONFIGURATION: Final = (
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "fetch.unpackLimit=1",
    # Files of LFS come from a server that the repository names: they are not fetched, whatever this machine is set to.
    "filter.lfs.smudge=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
)
_GIT_BYTES: Final = 64 * 2**20
_GIT_FILES: Final = 1000
"""What git keeps beside the objects and the files."""
_LISTED_BYTES: Final = 512
"""Of an average entry of a listing at most: its path is most of it."""


def scheme_of(url: str) -> str:
    """Return the URL's scheme; ``user@host:path`` is ssh, a plain path has none."""
    return "ssh" if _SCP_STYLE.match(url) else urlsplit(url).scheme


def without_secrets(url: str) -> str:
    """Return `url` without a password or token."""
    parts = urlsplit(url)
    if not parts.scheme or parts.username is None or parts.scheme == "ssh":
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def clone(
    url: str,
    commit: str,
    into: Path,
    *,
    limits: Limits,
    schemes: Collection[str] = SCHEMES,
    allowed: Allowance = Allowance(),  # noqa: B008 - frozen
) -> None:
    """Check `commit` out into `into`, which must not exist yet. What it holds is judged before it is written there.

    Raises:
        AuthorError: the URL's scheme is not allowed, the repository has no such commit, or it is too large or hostile.
        InfrastructureError: the repository did not answer.
    """
    if scheme_of(url) not in schemes:
        raise AuthorError(
            f"repository {without_secrets(url)}: scheme {scheme_of(url) or 'none'!r}; "
            f"allowed are {', '.join(schemes)}. Next: use such a URL at the forge, or extend EDGELOOP_URL_SCHEMES"
        )
    into.mkdir()  # noqa: ASYNC240 - one folder on a local disk
    _make_empty_repository(into / ".git")
    git = _Git(url, into, _of_fetch(limits, allowed), _environment(schemes))
    fetched = await git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", url, commit)
    if fetched.ending is Ending.DISK:
        raise git.too_large(allowed)
    if not fetched.succeeded:
        if not any(sign in line for line in fetched.last_lines for sign in _NOT_THERE):
            raise git.unreachable(fetched)
        # Older servers give only what a branch or tag points at: fetch those, whole, and look inside.
        heads = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        fetched = await git.run("fetch", "--quiet", "--no-tags", "--", url, *heads)
        if fetched.ending is Ending.DISK:
            raise git.too_large(allowed)
        git.must(fetched)
    await asyncio.to_thread(require_harmless, await git.listing(commit, allowed), allowed)
    checked_out = await git.run("checkout", "--quiet", "--detach", commit)
    if invalid := next(filter(None, map(_INVALID_PATH.search, checked_out.last_lines)), None):
        raise AuthorError(
            f"{invalid[1]}: git refuses the path as one of its own, here or on another system. Next: rename it"
        )
    git.must(checked_out)
    await asyncio.to_thread(require_harmless_folder, into, allowed)


def _make_empty_repository(folder: Path) -> None:
    """Do what ``git init`` does, without a process, and without the machine's template, which may hold hooks.

    Source: gitrepository-layout(5); git takes a folder with these three for a repository.
    """
    for name in ("objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n", "ascii")


def require_harmless_folder(top: Path, allowed: Allowance) -> None:
    """Judge what is in a folder already, links and LFS pointers included.

    Raises:
        AuthorError: the first thing that is wrong, and in `last_lines` a few more.
    """
    require_harmless(list(entries_of_folder(top, at_most=allowed.files)), allowed)


def require_harmless(entries: Sequence[Entry], allowed: Allowance) -> None:
    """Raise AuthorError unless a repository with these entries may be used."""
    if found := problems(entries, allowed):
        raise AuthorError(found[0], found[1:])


def _of_fetch(limits: Limits, allowed: Allowance) -> Limits:
    """Return the limits of git: packed as much as checked out, and both are there at once."""
    return replace(
        limits,
        file_bytes=max(limits.file_bytes, allowed.total_bytes),
        disk_bytes=2 * allowed.total_bytes + _GIT_BYTES,
        disk_files=allowed.files + _GIT_FILES,
    )


class _Git:
    """git in one work tree, with one repository in mind."""

    def __init__(self, url: str, tree: Path, limits: Limits, environment: dict[str, str]) -> None:
        self._url = without_secrets(url)
        self._tree = tree
        self._limits = limits
        self._environment = environment

    async def run(self, *arguments: str, output: Path | None = None, limits: Limits | None = None) -> Ended:
        options = [part for setting in _CONFIGURATION for part in ("-c", setting)]
        return await run_limited(
            ["git", *options, *arguments],
            cwd=self._tree,
            environment=self._environment,
            limits=limits or self._limits,
            order=Order(watched=(str(self._tree),), output=str(output or "")),
        )

    async def listing(self, commit: str, allowed: Allowance) -> list[Entry]:
        """Return what a commit holds, before any of it is on the disk.

        Raises:
            AuthorError: there is no such commit, or the list alone is longer than that of a repository of the size
                that is allowed.
        """
        file = self._tree / ".git" / "edgeloop-listing"
        limits = replace(self._limits, file_bytes=allowed.files * _LISTED_BYTES)
        ended = await self.run(
            "ls-tree", "-r", "-z", "-l", "--full-tree", f"{commit}^{{commit}}", output=file, limits=limits
        )
        if ended.exit_code == -signal.SIGXFSZ or any("File too large" in line for line in ended.last_lines):
            raise AuthorError(too_many_files(allowed.files, allowed))
        if any(_NO_SUCH_OBJECT in line for line in ended.last_lines):
            raise AuthorError(
                f"repository {self._url} has no commit {commit} any more; a forced push may have replaced it. "
                "Next: push again"
            )
        self.must(ended)
        entries = list(entries_of_listing(file.read_bytes()))
        file.unlink()
        return entries

    def too_large(self, allowed: Allowance) -> AuthorError:
        return AuthorError(
            f"repository {self._url} sends more than {allowed.total_bytes:,} bytes, which is what it may have. "
            "Next: take data out of it that training does not read, or let the operator raise EDGELOOP_CHECKOUT_BYTES"
        )

    def must(self, ended: Ended) -> None:
        if not ended.succeeded:
            raise self.unreachable(ended)

    def unreachable(self, ended: Ended) -> InfrastructureError:
        if ended.ending is Ending.NOT_STARTED:
            return InfrastructureError(
                f"git cannot be started: {ended.error}. Next: install git on the builder's machine"
            )
        if ended.ending is Ending.NO_ROOM:
            return InfrastructureError(f"{self._tree}: no space left on the disk. Next: free some")
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
