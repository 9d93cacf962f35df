"""What builds, as digests: when none of it changed, what was built before is as good as new."""

import hashlib
import json
import os
import platform
import shutil
import zlib
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, Self

from services.artifact_builder.caching.code import code_digest
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.tools import Tools

_CODE: Final = ("services.artifact_builder.pipeline", "services.artifact_builder.inputs.*")
_DATA: Final = ("firmware", "shared/boards/catalogue")


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All that builds beside what is built, as digests."""

    environment: str
    """Python, machine, every installed package, and the variables that steps may see."""
    compiler: str
    public_key: str

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Look around.

        Raises:
            InfrastructureError: the signing key cannot be read.
        """
        environment = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
            "packages": sorted({f"{found.name}=={found.version}" for found in metadata.distributions()}),
            "variables": {name: os.environ.get(name) for name in tools.step_variables},
        }
        return cls(_digest(environment), _compiler(tools.toolchain), hashlib.sha256(tools.public_key()).hexdigest())

    @property
    def digest(self) -> str:
        """Of everything, the code of the whole pipeline included."""
        return _digest([self.environment, self.compiler, self.public_key, code_digest(_CODE, _DATA)])


def _digest(parts: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _compiler(toolchain: Toolchain) -> str:
    """Return what tells this compiler from another one: Zig is a package, GCC is told by its file."""
    if toolchain is Toolchain.ZIG:
        return f"zig {_version('ziglang')}"
    found = shutil.which("arm-none-eabi-gcc")
    if found is None:
        return f"{toolchain}: not installed"
    with open(found, "rb") as file:  # noqa: PTH123 - what `which` gives is text
        return f"{toolchain} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
