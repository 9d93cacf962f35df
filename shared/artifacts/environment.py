"""What built an artifact, locked: every package with its version and the digest of its files."""

from pydantic import BaseModel, ConfigDict, Field

from shared.events import Digest


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Package(_Part):
    """One installed distribution."""

    name: str
    version: str
    licence: str = Field(description="SPDX expression, or NOASSERTION")
    files: Digest | None = Field(
        default=None, description="SHA-256 over the lines of its RECORD that the wheel brought, sorted; none without"
    )

    @property
    def purl(self) -> str:
        """The package URL, as the purl specification normalises names of PyPI."""
        return f"pkg:pypi/{self.name.lower().replace('_', '-')}@{self.version}"


class Environment(_Part):
    """The machine's side of a build."""

    edgeloop: str = Field(description="Version of the builder")
    sources: Digest = Field(description="Of the builder's own code")
    python: str = Field(description="Implementation and version")
    platform: str = Field(description="Operating system, processor and C library")
    compiler: str = Field(description="What compiled the firmware")
    packages: tuple[Package, ...] = Field(description="Sorted by name")

    def to_bytes(self) -> bytes:
        """Return the JSON that is stored."""
        return self.model_dump_json().encode()

    def requirements(self) -> bytes:
        """Return what pip installs the same packages from."""
        return "".join(f"{package.name}=={package.version}\n" for package in self.packages).encode()
