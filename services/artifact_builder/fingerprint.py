"""What builds, as one digest: when none of it changed, a remembered build is as good as a new one."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from services.artifact_builder.firmware.compiling import Toolchain
from services.artifact_builder.tools import Tools

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = (
    "services/artifact_builder",
    "shared/releases",
    "shared/events",
    "shared/boards",
    "shared/emulation",
    "shared/inference",
    "firmware",
)
"""Everything that a release's bytes depend on: image format and event vocabulary are part of it."""
_SUFFIXES: Final = frozenset({".py", ".c", ".h", ".in", ".ld", ".toml"})


def toolbox_digest(tools: Tools) -> str:
    """Return the digest of all that builds beside the commit: code, packages, compiler, variables of steps, public key.

    Raises:
        InfrastructureError: the signing key cannot be read.
    """
    parts = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": sorted({f"{found.name}=={found.version}" for found in metadata.distributions()}),
        "sources": sorted(_sources(_ROOT)),
        "compiler": _compiler(tools.toolchain),
        "variables": {name: os.environ.get(name) for name in tools.step_variables},
        "key": hashlib.sha256(tools.public_key()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sources(root: Path) -> Iterator[tuple[str, str]]:
    for folder in _SOURCES:
        for file in (root / folder).rglob("*"):
            if file.suffix in _SUFFIXES and file.is_file():
                yield str(file.relative_to(root)), hashlib.sha256(file.read_bytes()).hexdigest()


def _compiler(toolchain: Toolchain) -> str:
    """Zig is one of the packages; another compiler is told by its file."""
    if toolchain is Toolchain.ZIG:
        return toolchain
    found = shutil.which("arm-none-eabi-gcc")
    if found is None:
        return f"{toolchain}: not installed"
    state = Path(found).resolve().stat()
    return f"{toolchain}: {state.st_size} bytes of {state.st_mtime_ns}"
