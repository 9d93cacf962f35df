"""Project names that a person types."""

import re

from edgeloop.errors import UsageError
from shared.events import Slug

_PATTERN: str = Slug.__metadata__[0].pattern  # type: ignore[attr-defined]  # the one definition of a slug


def require_project(project: str) -> str:
    """Return `project`.

    Raises:
        UsageError: it is not a slug.
    """
    if not re.fullmatch(_PATTERN, project):
        raise UsageError(
            f"--project {project!r}: a project is 1 to 63 of a-z, 0-9 and hyphen, not beginning with a hyphen",
            next_step="`edgeloop run list` shows the projects",
        )
    return project
