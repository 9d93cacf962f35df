"""The vocabulary that every payload is written in."""

from enum import StrEnum
from hashlib import sha256
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""A name that is safe as one token of a subject: a project, a gateway, a device."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""The SHA-256 of some bytes, written as OCI writes it."""

Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
"""A full git object id, SHA-1 or SHA-256."""


def digest_of(data: bytes) -> str:
    """Return the `Digest` of `data`."""
    return f"sha256:{sha256(data).hexdigest()}"


class Payload(BaseModel):
    """What an event says. Subclasses are past participles and name their `TYPE`: domain, action, major version.

    Readers ignore fields that they do not know, so that optional additions never break an older reader.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")

    TYPE: ClassVar[str]
    """For example ``artifact.built.v1``."""

    project: Slug


class Command(Payload):
    """An order to one receiver. Subclasses are imperatives; the work queue delivers each to exactly one handler."""

    receiver: Slug = Field(description="The service or gateway that carries the command out")


class Trigger(StrEnum):
    """Why a pipeline run began."""

    PUSH = "push"
    DRIFT = "drift"


class Blob(BaseModel):
    """A reference to bytes in the object store."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: Digest
    size_bytes: int = Field(ge=0)
    media_type: str
    name: str = Field(default="", description="The file name, where there was one")

    @classmethod
    def of(cls, data: bytes, *, media_type: str, name: str = "") -> Self:
        """Return the reference to `data`."""
        return cls(digest=digest_of(data), size_bytes=len(data), media_type=media_type, name=name)


class CheckOutcome(StrEnum):
    """A gate's verdict. Too little data is a verdict of its own: it neither passes nor fails."""

    PASSED = "passed"
    FAILED = "failed"
    INSUFFICIENT_EVIDENCE = "insufficient-evidence"


class Check(BaseModel):
    """One question a gate asked, and its answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(description="Kebab-case, stable: dashboards and policies refer to it")
    outcome: CheckOutcome
    observed: str = Field(description="What was found, with its unit")
    allowed: str = Field(description="What would have passed")
    detail: str = Field(default="", description="Where, and what to do next")
