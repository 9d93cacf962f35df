"""Installing the post-receive hook: what is written where, and what is never overwritten."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edgeloop import post_receive
from edgeloop.errors import UsageError
from edgeloop.git import isolated_environment
from edgeloop.layout import write_json, write_private
from services.source_webhook.domain import project_of

MARK: Final = "# Written by `edgeloop hook install`."
HOOK: Final = f"""\
#!/bin/sh
{MARK} Sends a webhook for every branch; never fails a push.
program="$(dirname "$0")/../edgeloop/post_receive.py"
if command -v python3 >/dev/null 2>&1; then
  python3 -I "$program" || echo "edgeloop: the hook failed; the push itself is done" >&2
else
  echo "edgeloop: NOT told about this push: python3 is not on the PATH; the push itself is done" >&2
fi
exit 0
"""


@dataclass(frozen=True, slots=True)
class InstalledHook:
    """What `install` did."""

    hook: Path
    clone_url: str
    project: str
    bare: bool


def install(
    repository: Path,
    *,
    url: str,
    secret: str,
    name: str | None = None,
    clone_url: str | None = None,
    data: Path | None = None,
    force: bool = False,
) -> InstalledHook:
    """Write the hook and, readable by its owner only, the address and the secret it uses.

    With `data`, the directory of a stack on this machine, the hook tells the pusher the command that shows the run.

    Raises:
        UsageError: not a repository whose hooks git would run from here, a URL that is none, or a foreign hook.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(f"--url {url!r}: it must be an http or https URL")
    git_directory = _git_directory(repository)
    hook = git_directory / "hooks" / "post-receive"
    if hook.exists() and MARK not in hook.read_text("utf-8", errors="replace") and not force:
        raise UsageError(
            f"{hook}: there is a post-receive hook that Edgeloop did not write",
            next_step="call it from a hook of your own, or replace it with --force",
        )
    full_name = name or f"local/{repository.resolve().name.removesuffix('.git') or 'repository'}"
    where = clone_url or git_directory.as_uri()
    home = git_directory / "edgeloop"
    watch = "edgeloop run watch" + (f" --data {shlex.quote(str(data.absolute()))}" if data else "")
    write_json(home / "webhook.json", {"url": url, "full_name": full_name, "clone_url": where, "watch": watch})
    write_private(home / "webhook-secret", secret + "\n")
    write_private(home / "post_receive.py", Path(post_receive.__file__).read_bytes())
    write_private(hook, HOOK)
    hook.chmod(0o755)
    bare = _rev_parse(repository, "--is-bare-repository") == "true"
    return InstalledHook(hook=hook, clone_url=where, project=project_of(full_name), bare=bare)


def _git_directory(repository: Path) -> Path:
    if not repository.is_dir():
        raise UsageError(f"{repository}: no such directory; a git repository that people push to is needed")
    found = Path(_rev_parse(repository, "--absolute-git-dir"))
    if _rev_parse(repository, "--show-prefix"):
        raise UsageError(
            f"{repository} is a folder inside a repository, {found}; the repository itself is needed",
            next_step=f"name that one, or make a new one here: git init --bare {repository}",
        )
    shared = (repository / _rev_parse(repository, "--git-common-dir")).resolve()
    if shared != found.resolve():
        raise UsageError(
            f"{repository} is a linked worktree; its hooks are those of {shared}", next_step="name that repository"
        )
    # In the user's own environment: a path set for all repositories counts as well.
    elsewhere = _git(repository, "config", "--get", "core.hooksPath", environment=dict(os.environ)).stdout.strip()
    if elsewhere and (repository / Path(elsewhere).expanduser()).resolve() != (found / "hooks").resolve():
        raise UsageError(
            f"{repository}: git takes hooks from core.hooksPath, {elsewhere}, and ignores {found / 'hooks'}",
            next_step=f"give this repository its own: git -C {repository} config core.hooksPath {found / 'hooks'}",
        )
    return found


def _rev_parse(repository: Path, option: str) -> str:
    found = _git(repository, "rev-parse", option, environment=isolated_environment())
    if found.returncode != 0:
        raise UsageError(
            f"{repository} is not a git repository: {found.stderr.strip()}", next_step=f"git init --bare {repository}"
        )
    return found.stdout.strip()


def _git(repository: Path, *arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own arguments
