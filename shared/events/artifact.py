"""What the artifact builder says."""

from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from shared.events._base import Commit, Digest, Payload, Slug, Trigger


class BuildStage(StrEnum):
    """The steps of a build, in order."""

    CLONE = "clone"
    MANIFEST = "manifest"
    DATA = "data"
    TRAIN = "train"
    QUANTISE = "quantise"
    GENERATE = "generate"
    COMPILE = "compile"
    SIGN = "sign"
    STORE = "store"


class StageTiming(BaseModel):
    """How long one step took, measured on the builder's wall clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: BuildStage
    seconds: float = Field(ge=0)
    cached: bool = Field(default=False, description="Nothing of it ran: all that it gave was remembered")


class FirmwareSummary(BaseModel):
    """The size of one board's firmware, read from its ELF sections."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    board: Slug
    image: Digest = Field(description="The signed MCUboot image in the object store")
    flash_bytes: int
    ram_bytes: int = Field(description="Static: .data and .bss, without the stack")


class ArtifactBuilt(Payload):
    """A release is in the object store; nothing has judged it yet."""

    TYPE: ClassVar[str] = "artifact.built.v1"

    digest: Digest = Field(description="Of the artifact: an OCI manifest, whose config is the release index")
    commit: Commit
    trigger: Trigger
    firmware: tuple[FirmwareSummary, ...]
    rebuilt: bool = Field(description="False when all that the release is made of was found in the cache")
    stages: tuple[StageTiming, ...] = ()
    sandbox: str | None = Field(
        default=None,
        description="What kept the repository's code apart: container, bubblewrap or process; null when nothing ran",
    )


class BuildFailed(Payload):
    """A commit did not become a release, and would not if built again; the reason says what to mend."""

    TYPE: ClassVar[str] = "artifact.build_failed.v1"

    commit: Commit
    trigger: Trigger
    stage: BuildStage
    reason: str = Field(description="The place, what was found, what is allowed, what to do next")
    last_lines: tuple[str, ...] = Field(default=(), description="The end of the failing program's output")
    sandbox: str | None = Field(
        default=None,
        description="What kept the repository's code apart: container, bubblewrap or process; null when nothing ran",
    )
