"""The two ways in which a build does not become a release."""

from collections.abc import Sequence

from services.artifact_builder.sandbox.engines import Engine
from shared.events.artifact import BuildStage


class AuthorError(ValueError):
    """Something in the repository that its author can mend. Building the same commit again would fail again."""

    def __init__(self, reason: str, last_lines: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.last_lines = tuple(last_lines)


class BuildFailureError(AuthorError):
    """An author's error, with the stage that it showed in, and what the build's programs had run in until then."""

    def __init__(
        self, stage: BuildStage, reason: str, last_lines: Sequence[str] = (), sandbox: Engine | None = None
    ) -> None:
        super().__init__(reason, last_lines)
        self.stage = stage
        self.sandbox = sandbox


class InfrastructureError(RuntimeError):
    """The machine, the network or the installation is at fault: the same commit may build later."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoRoomError(InfrastructureError):
    """No commit can be built here until somebody frees some disk."""
