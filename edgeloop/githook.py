"""Installing the post-receive hook: what is written where, and what is never overwritten."""

import subprocess
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


def install(
    repository: Path,
    *,
    url: str,
    secret: str,
    name: str | None = None,
    clone_url: str | None = None,
    force: bool = False,
) -> InstalledHook:
    """Write the hook and, readable by its owner only, the address and the secret it uses.

    Raises:
        UsageError: not a git repository, a URL that is none, or a hook that somebody else wrote.
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
    write_json(home / "webhook.json", {"url": url, "full_name": full_name, "clone_url": where})
    write_private(home / "webhook-secret", secret + "\n")
    write_private(home / "post_receive.py", Path(post_receive.__file__).read_bytes())
    write_private(hook, HOOK)
    hook.chmod(0o755)
    return InstalledHook(hook=hook, clone_url=where, project=project_of(full_name))


def _git_directory(repository: Path) -> Path:
    if not repository.is_dir():
        raise UsageError(f"{repository}: no such directory; a git repository that people push to is needed")
    found = subprocess.run(  # noqa: S603 - our own arguments
        ["git", "-C", str(repository), "rev-parse", "--absolute-git-dir"],  # noqa: S607 - the user's git
        capture_output=True,
        text=True,
        check=False,
        env=isolated_environment(),
    )
    if found.returncode != 0:
        raise UsageError(
            f"{repository} is not a git repository: {found.stderr.strip()}", next_step=f"git init --bare {repository}"
        )
    return Path(found.stdout.strip())
