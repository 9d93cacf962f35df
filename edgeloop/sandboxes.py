"""What the environment says of sandboxes, for commands that build by themselves or tell what a builder would do."""

from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from edgeloop.errors import UsageError
from services.artifact_builder.sandbox.opening import SandboxOptions
from services.artifact_builder.settings import SandboxSettings
from shared.runtime import wrong_variables


def sandbox_options(hidden: tuple[Path, ...] = ()) -> SandboxOptions:
    """Return how the code is kept apart: the same variables say it as to the builder.

    Raises:
        UsageError: one of them is wrong.
    """
    try:
        return SandboxSettings().sandbox_options(hidden)
    except (ValidationError, SettingsError) as error:
        said = wrong_variables(error) if isinstance(error, ValidationError) else str(error)
        raise UsageError(said, next_step="correct the variable, or unset it") from error
