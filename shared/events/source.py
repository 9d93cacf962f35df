"""What forges tell us."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from shared.events._base import Commit, Payload


class Forge(StrEnum):
    """The dialect a webhook was written in."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"


class SourcePushed(Payload):
    """A branch has a new head: a pipeline run begins."""

    TYPE: ClassVar[str] = "source.pushed.v1"

    repository: str = Field(description="Where to clone from: an https, ssh or file URL")
    ref: str = Field(description="For example refs/heads/main")
    commit: Commit
    forge: Forge
    delivery: str = Field(description="The forge's id of this delivery, or the SHA-256 of its body")
    pusher: str = Field(default="", description="Who pushed, as the forge names them")
