"""Where an artifact comes from: an in-toto statement with SLSA's build provenance.

Source: in-toto attestation framework, statement v1; SLSA provenance v1. Neither times nor hosts are written, so that
equal inputs give equal bytes: `runDetails.metadata` and invocation ids are left out.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.events import Commit, Digest, Slug, Trigger
from shared.events.lab import Numerics

BUILD_TYPE: Final = "urn:edgeloop:build:v1"
BUILDER_ID: Final = "urn:edgeloop:artifact-builder:v1"
COMPILATION_BUILD_TYPE: Final = "urn:edgeloop:compilation:v1"
COMMAND_LINE_ID: Final = "urn:edgeloop:command-line:v1"
"""Whoever ran `edgeloop compile`: a person's machine, which promises less than a stack's builder."""

Uri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s]+$")]
DigestSet = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")],
        Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32,128}$")],
    ],
    Field(min_length=1),
]


class _Part(BaseModel):
    # Field names are the specification's own.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Part):
    """A file that the statement speaks of."""

    name: str = Field(min_length=1)
    digest: DigestSet


class ManifestReference(_Part):
    """The repository's `edgeloop.yaml`."""

    path: str
    digest: Digest


class ExternalParameters(_Part):
    """What was asked for: all that whoever pushes can influence."""

    project: Slug
    repository: str = Field(min_length=1)
    commit: Commit
    trigger: Trigger
    manifest: ManifestReference


class CompilationParameters(_Part):
    """What was asked of `edgeloop compile`."""

    model: Digest
    board: Slug
    numerics: Numerics
    toolchain: str = Field(min_length=1)
    release: str = Field(min_length=1)


class InternalParameters(_Part):
    """What the builder decided."""

    signingKey: str = Field(pattern=r"^[0-9a-f]{64}$")  # noqa: N815
    signingAlgorithm: str  # noqa: N815
    environment: Digest


class ResourceDescriptor(_Part):
    """Something that went into the build. A package that its archive's digest is not known of has none."""

    name: str | None = None
    uri: Uri | None = None
    digest: DigestSet | None = None


class BuildDefinition(_Part):
    """What was built from what."""

    buildType: Literal["urn:edgeloop:build:v1"] = BUILD_TYPE  # noqa: N815
    externalParameters: ExternalParameters  # noqa: N815
    internalParameters: InternalParameters  # noqa: N815
    resolvedDependencies: tuple[ResourceDescriptor, ...] = Field(min_length=1)  # noqa: N815


class CompilationDefinition(_Part):
    """What was compiled from which model."""

    buildType: Literal["urn:edgeloop:compilation:v1"] = COMPILATION_BUILD_TYPE  # noqa: N815
    externalParameters: CompilationParameters  # noqa: N815
    internalParameters: InternalParameters  # noqa: N815
    resolvedDependencies: tuple[ResourceDescriptor, ...] = Field(min_length=1)  # noqa: N815


class Builder(_Part):
    """Who built."""

    id: Uri
    version: dict[str, str]


class RunDetails(_Part):
    """How it was built."""

    builder: Builder


class Provenance(_Part):
    """The predicate."""

    buildDefinition: Annotated[BuildDefinition | CompilationDefinition, Field(discriminator="buildType")]  # noqa: N815
    runDetails: RunDetails  # noqa: N815


class Statement(_Part):
    """What the builder vouches for."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type", serialization_alias="_type"
    )
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicateType: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"  # noqa: N815
    predicate: Provenance

    def to_bytes(self) -> bytes:
        """Return the JSON that is signed."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()
