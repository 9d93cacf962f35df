"""Opens the sandbox that a repository's code runs in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from services.artifact_builder.sandbox import bubblewrap, container
from services.artifact_builder.sandbox.bubblewrap import Bubblewrap
from services.artifact_builder.sandbox.container import Container
from services.artifact_builder.sandbox.engines import Engine, Mode, Sandbox, choose, is_trusted
from services.artifact_builder.sandbox.plain import PlainProcess

LOCAL_REPOSITORIES: Final = ("file://*",)
"""Those on this machine's disk; `is_trusted` asks that they belong to the builder's user."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """What the operator says about sandboxes. The defaults trust nobody."""

    mode: Mode = Mode.AUTO
    image: str = ""
    """Of containers; empty: none are used."""
    image_python: str = ""
    """The interpreter in that image, with the builder's packages; empty: this machine's are mounted."""
    trusted: tuple[str, ...] = ()
    """Shell patterns of the URLs of repositories that may do without a sandbox."""
    readable: tuple[Path, ...] = ()
    """Folders of this machine that every step may read, beside the system's and Python's."""
    hidden: tuple[Path, ...] = ()
    """What no step ever sees: keys, data."""

    def troubles(self) -> Mapping[Engine, str]:
        """Return of each strong engine why it does not work here; empty: it does. Takes a moment the first time."""
        return {
            Engine.CONTAINER: container.trouble(self.image) if self.image else "EDGELOOP_SANDBOX_IMAGE names no image",
            Engine.BUBBLEWRAP: bubblewrap.trouble(),
        }

    def open(self, repository: str, scratch: Path, *, trusted: bool | None = None) -> Sandbox:
        """Return the sandbox for a repository's code. `scratch` is a folder that the code does not see.

        Args:
            repository: Its URL, without secrets.
            scratch: Where the sandbox may keep what it is given as files.
            trusted: None: decided by its URL, and who owns it.

        Raises:
            NoSandboxError: nothing that may be used works.
        """
        if trusted is None:
            trusted = is_trusted(repository, self.trusted, owner=owner_of(repository), user=os.geteuid())
        match choose(self.mode, self.troubles(), repository=repository, trusted=trusted):
            case Engine.CONTAINER:
                return Container(self.image, self.image_python, scratch, self.hidden, self.readable)
            case Engine.BUBBLEWRAP:
                return Bubblewrap(scratch, self.hidden, self.readable)
            case Engine.PROCESS:
                return PlainProcess()


def owner_of(url: str) -> int | None:
    """Return whose folder a file:// URL names; None for other URLs, and when there is none."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc:
        return None
    try:
        return Path(unquote(parts.path)).stat().st_uid
    except OSError:
        return None
