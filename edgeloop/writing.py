"""Files that commands write for their users."""

from pathlib import Path

from edgeloop.errors import UsageError


def require_writable(option: str, file: Path) -> None:
    """Raise UsageError when `file`, given by `option`, cannot be written; what it holds stays until there is more."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("ab").close()
    except OSError as error:
        raise UsageError(f"{option} {file}: {error.strerror}", next_step="name a file that can be written") from error
