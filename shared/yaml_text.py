"""YAML that people write: every way in which a text is none has a line and a reason."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError


class YamlTextError(ValueError):
    """A text that is no YAML.

    Attributes:
        line: Where it is none, from 1; 0 where nobody knows.
        problem: What was found, on one line.
        key_twice: It would be YAML, were not a key there twice.
    """

    def __init__(self, line: int, problem: str, *, key_twice: bool = False) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.line, self.problem, self.key_twice = line, problem, key_twice

    def at(self, file: str) -> str:
        """Return the file, with the line where it is known."""
        return f"{file}:{self.line}" if self.line else file


def load_yaml(text: str, yaml: YAML | None = None) -> Any:  # noqa: ANN401 - ruamel's nodes
    """Return the document, which knows its lines.

    Raises:
        YamlTextError: it is none.
    """
    try:
        return (yaml or YAML(typ="rt")).load(text)
    except DuplicateKeyError as error:
        found = (error.problem or "a key twice").removeprefix("found ").split(" with value")[0]
        raise YamlTextError(_line(error), found, key_twice=True) from error
    except Exception as error:  # over what is no date, number or key, ruamel.yaml raises whatever Python does
        found = getattr(error, "problem", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise YamlTextError(_line(error), found.strip()) from error


def _line(error: Exception) -> int:
    mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
    return mark.line + 1 if mark else 0
