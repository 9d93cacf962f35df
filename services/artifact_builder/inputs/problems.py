"""What is wrong with a model, said to its author."""

import re
from typing import Final

_UNKNOWN_OPERATOR: Final = re.compile(r'loc\((?:fused\[)?"(?P<place>[^"]*)".*?\'tf\.(?P<name>\w+)\' op')


class ModelError(ValueError):
    """The model is not one that can be converted. The message says what was found, what is allowed, what to do."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's text that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def unknown_operators(error: Exception) -> str:
    """Return what TensorFlow Lite's converter has no operator for, or nothing: the name is on no first line."""
    found = sorted({(match["name"], match["place"]) for match in _UNKNOWN_OPERATOR.finditer(str(error))})
    return "; ".join(f"{name} (at {place.strip(':') or 'an unnamed node'})" for name, place in found)
