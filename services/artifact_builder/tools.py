"""What a build works with, apart from what it builds."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from services.artifact_builder.errors import InfrastructureError, NoRoomError
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.harmless import Allowance
from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.sandbox.opening import SandboxOptions
from services.artifact_builder.sandbox.processes import Limits
from services.artifact_builder.signers import Signer, signer_for
from services.artifact_builder.source import SCHEMES


@dataclass(frozen=True, slots=True)
class Tools:
    """Key, compiler and limits. The defaults suit a build on somebody's own machine."""

    signing_key: Path | str
    """A PEM file, or a pkcs11: URI."""
    compiler_cache: Path
    toolchain: Toolchain = Toolchain.ZIG
    url_schemes: tuple[str, ...] = SCHEMES
    step_timeout_s: float = 3600
    step_memory_bytes: int = 3 * 2**30
    step_processes: int = 256
    step_file_bytes: int = 2 * 2**30
    step_disk_bytes: int = 8 * 2**30
    step_disk_files: int = 100_000
    step_variables: tuple[str, ...] = ()
    clone_timeout_s: float = 120
    checkout: Allowance = field(default_factory=Allowance)
    conversion_timeout_s: float = 300
    minimum_free_bytes: int = 256 * 2**20
    sandbox: SandboxOptions = field(default_factory=SandboxOptions)

    def limits(self, wall_s: float) -> Limits:
        """Return the limits of one program."""
        return Limits(
            wall_s=min(wall_s, self.step_timeout_s),
            memory_bytes=self.step_memory_bytes,
            processes=self.step_processes,
            file_bytes=self.step_file_bytes,
            disk_bytes=self.step_disk_bytes,
            disk_files=self.step_disk_files,
            free_bytes=self.minimum_free_bytes // 2,
        )

    def signer(self) -> Signer:
        """Return who signs.

        Raises:
            InfrastructureError: there is no such key.
        """
        try:
            return signer_for(self.signing_key)
        except SignerError as error:
            raise InfrastructureError(str(error)) from error

    def public_key(self) -> bytes:
        """Return the public half of the signing key, in DER. Raises as `signer`."""
        return self.signer().public_key.der

    def check_room(self, folder: Path) -> None:
        """Raise NoRoomError unless the disk below `folder` has room for a build."""
        free = shutil.disk_usage(folder).free
        if free < self.minimum_free_bytes:
            raise NoRoomError(
                f"{folder} has {free:,} bytes free; a build needs {self.minimum_free_bytes:,}. "
                "Next: free some, or move EDGELOOP_DATA to a larger disk"
            )
