"""Running git the same on every machine: no user's configuration, no identity needed, no prompt."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edgeloop.errors import InfrastructureError

IDENTITY = "Edgeloop"
ADDRESS = "edgeloop@localhost"


def isolated_environment() -> dict[str, str]:
    """Return an environment in which git reads no configuration but the repository's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": IDENTITY,
        "GIT_AUTHOR_EMAIL": ADDRESS,
        "GIT_COMMITTER_NAME": IDENTITY,
        "GIT_COMMITTER_EMAIL": ADDRESS,
    }


def git(directory: Path, *arguments: str, extra: Mapping[str, str] | None = None, timeout_s: float = 60) -> str:
    """Run git in `directory`, with `extra` variables, and return what it printed, both streams.

    Raises:
        InfrastructureError: git is missing, failed, or took too long.
    """
    command = ["git", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            command,
            cwd=directory,
            env=isolated_environment() | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise InfrastructureError("git is not installed", next_step="install git") from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"`{' '.join(command)}` did not end within {timeout_s:g} s in {directory}") from error
    if done.returncode != 0:
        raise InfrastructureError(f"`{' '.join(command)}` failed in {directory}: {done.stdout.strip()[-2000:]}")
    return done.stdout.strip()
