"""Which sandbox a repository's code runs in: a pure decision, and the words for it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from services.artifact_builder.sandbox.processes import Ended, Limits


class Engine(StrEnum):
    """What keeps a program apart from the machine, the strongest first."""

    CONTAINER = "container"
    """A container of Docker, or of what speaks its protocol."""
    BUBBLEWRAP = "bubblewrap"
    """Namespaces of the kernel, set up by bwrap."""
    PROCESS = "process"
    """Limits only: it could read what the builder can."""


class Mode(StrEnum):
    """What the operator asks for. `auto` is the strongest that works."""

    AUTO = "auto"
    CONTAINER = Engine.CONTAINER.value
    BUBBLEWRAP = Engine.BUBBLEWRAP.value
    PROCESS = Engine.PROCESS.value


STRONG: Final = (Engine.CONTAINER, Engine.BUBBLEWRAP)
HOW_TO_GET: Final[Mapping[Engine, str]] = {
    Engine.CONTAINER: "name an image in EDGELOOP_SANDBOX_IMAGE and let the builder reach a Docker engine",
    Engine.BUBBLEWRAP: "install bubblewrap (Debian: apt-get install bubblewrap) where user namespaces are allowed",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A program for a sandbox. It sees the system, Python, and the folders named here, at the same paths as outside."""

    command: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    limits: Limits
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = field(default=())
    """Folders; all that it writes to disk is in them, and counts."""


class Sandbox(Protocol):
    """Where code runs that is not ours."""

    @property
    def engine(self) -> Engine: ...

    async def run(self, program: Program) -> Ended:
        """Run `program` to its end; nothing of it is left when this returns, is cancelled, or its process is killed.

        Raises:
            SupervisorError: what enforces the limits was ended from outside, or the sandbox did not come up.
        """
        ...


class NoSandboxError(RuntimeError):
    """Nothing on this machine may run this repository's code."""


def choose(mode: Mode, troubles: Mapping[Engine, str], *, repository: str, trusted: bool) -> Engine:
    """Return the engine for a repository. `troubles` says of each strong engine why it does not work; empty: it does.

    Never weaker than what was asked for, and never without a sandbox unless the repository is trusted.

    Raises:
        NoSandboxError: nothing that may be used works; it says why, and what to install.
    """
    if mode is Mode.PROCESS:
        if trusted:
            return Engine.PROCESS
        raise NoSandboxError(
            f"repository {repository} is not trusted, and EDGELOOP_SANDBOX=process is no sandbox. Next: "
            f"set EDGELOOP_SANDBOX=auto and {HOW_TO_GET[Engine.BUBBLEWRAP]}; or, if everybody who can push there may "
            "read the signing key, add it to EDGELOOP_TRUSTED_REPOSITORIES"
        )
    wanted = STRONG if mode is Mode.AUTO else (Engine(mode.value),)
    for engine in wanted:
        if not troubles[engine]:
            return engine
    if mode is Mode.AUTO and trusted:
        return Engine.PROCESS
    found = "; ".join(f"{engine}: {troubles[engine]}" for engine in wanted)
    asked = f"EDGELOOP_SANDBOX={mode}" if mode is not Mode.AUTO else "no sandbox works here"
    raise NoSandboxError(
        f"repository {repository} cannot be built: {asked} ({found}). "
        f"Next: {', or '.join(HOW_TO_GET[engine] for engine in wanted)}"
    )


def is_trusted(url: str, patterns: Collection[str], *, owner: int | None, user: int) -> bool:
    """Return whether a repository's code may run without a sandbox.

    A pattern is a shell pattern of the whole URL; ``*`` takes slashes too. A folder of this machine has to belong to
    the builder's own user as well (`owner`, a user id; None: there is no such folder), as git asks for too.
    """
    parts = urlsplit(url)
    if any(step in (".", "..") for step in unquote(parts.path).split("/")):
        return False  # clients shorten such paths: it would be another repository than the one that was matched
    if parts.scheme == "file" and owner != user:
        return False
    named = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.scheme != "ssh" else url
    return any(fnmatchcase(named, pattern) for pattern in patterns)
