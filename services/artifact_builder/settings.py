"""Settings of the artifact builder, from EDGELOOP_ variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.artifact_builder.caching.eviction import Bounds
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.harmless import Allowance
from services.artifact_builder.key_uri import PKCS11_SCHEME, secret_files
from services.artifact_builder.sandbox.engines import Mode
from services.artifact_builder.sandbox.opening import SandboxOptions
from services.artifact_builder.source import SCHEMES
from services.artifact_builder.tools import Tools
from shared.runtime import BaseServiceSettings


class SandboxSettings(BaseSettings):
    """What the operator says about sandboxes: to the builder, and to the command line where it builds by itself."""

    model_config = SettingsConfigDict(env_prefix="EDGELOOP_", frozen=True, extra="ignore")

    sandbox: Mode = Field(default=Mode.AUTO, description="auto is the strongest that works here")
    sandbox_image: str = Field(default="", description="What containers are made of; empty: none are used")
    sandbox_image_python: str = Field(default="", description="Its interpreter; empty: this machine's is mounted")
    sandbox_readable: tuple[Path, ...] = Field(default=(), description="Folders that every step may read as well")
    trusted_repositories: tuple[str, ...] = Field(
        default=(), description="Shell patterns of URLs whose code may run without a sandbox"
    )

    def sandbox_options(self, hidden: tuple[Path, ...] = ()) -> SandboxOptions:
        """Return how sandboxes are opened; `hidden` is what no step ever sees."""
        return SandboxOptions(
            mode=self.sandbox,
            image=self.sandbox_image,
            image_python=self.sandbox_image_python,
            trusted=self.trusted_repositories,
            readable=self.sandbox_readable,
            hidden=hidden,
        )


class Settings(SandboxSettings, BaseServiceSettings):
    """What the builder may use, and what it signs with."""

    signing_key: str = Field(
        min_length=1,
        description="Ed25519 or ECDSA P-256: a PEM file, or pkcs11:token=NAME;object=KEY?pin-source=FILE",
    )
    toolchain: Toolchain = Field(default=Toolchain.ZIG, description="zig needs nothing installed; gcc is arm-none-eabi")
    compiler_cache: Path | None = Field(default=None, description="Worth sharing; none: below `data`")
    url_schemes: tuple[str, ...] = Field(default=SCHEMES, description="Where commits may be cloned from")
    step_timeout_s: float = Field(default=3600, gt=0, description="Above what any manifest may ask for a step")
    step_memory_bytes: int = Field(default=3 * 2**30, gt=0, description="Resident, a step and its children together")
    step_processes: int = Field(default=256, gt=0)
    step_file_bytes: int = Field(default=2 * 2**30, gt=0, description="Largest file that a step may write")
    step_disk_bytes: int = Field(default=8 * 2**30, gt=0, description="All that a step may write")
    step_disk_files: int = Field(default=100_000, gt=0, description="How many files a step may write")
    step_variables: tuple[str, ...] = Field(default=(), description="Names of variables that steps may see")
    clone_timeout_s: float = Field(default=120, gt=0)
    checkout_bytes: int = Field(default=2 * 2**30, gt=0, description="Of a repository, checked out")
    checkout_files: int = Field(default=20_000, gt=0, description="Of a repository, checked out")
    conversion_timeout_s: float = Field(default=300, gt=0)
    stage_cache_bytes: int = Field(
        default=Bounds().maximum_bytes, ge=0, description="Of all remembered stages together"
    )
    stage_cache_age_s: float = Field(
        default=Bounds().maximum_age_s, ge=1, description="After this a stage runs again, however often it was used"
    )
    minimum_free_bytes: int = Field(default=256 * 2**20, ge=0, description="Below this no build is begun")

    @property
    def work(self) -> Path:
        """Where builds happen: one folder each, gone at the end."""
        return (self.data / "builder" / "work").absolute()

    def cache_bounds(self) -> Bounds:
        """Return how large the cache of stages may be."""
        return Bounds(self.stage_cache_bytes, self.stage_cache_age_s)

    def tools(self) -> Tools:
        """Return what the pipeline is told of these settings."""
        named = self.signing_key
        key = named if named.startswith(PKCS11_SCHEME) else Path(named).absolute()
        return Tools(
            signing_key=key,
            compiler_cache=(self.compiler_cache or self.data / "builder" / "compiler-cache").absolute(),
            toolchain=self.toolchain,
            url_schemes=self.url_schemes,
            step_timeout_s=self.step_timeout_s,
            step_memory_bytes=self.step_memory_bytes,
            step_processes=self.step_processes,
            step_file_bytes=self.step_file_bytes,
            step_disk_bytes=self.step_disk_bytes,
            step_disk_files=self.step_disk_files,
            step_variables=self.step_variables,
            clone_timeout_s=self.clone_timeout_s,
            checkout=Allowance(files=self.checkout_files, total_bytes=self.checkout_bytes),
            conversion_timeout_s=self.conversion_timeout_s,
            minimum_free_bytes=self.minimum_free_bytes,
            sandbox=self.sandbox_options(hidden=(self.data.absolute(), *secret_files(key))),
        )
