"""Where output goes: results on stdout, everything else on stderr."""

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, RenderableType

from edgeloop.errors import EdgeloopError

WIDTH_OF_FILES: Final = 160


@dataclass(frozen=True, slots=True)
class Terminal:
    """One command's output. With `as_json`, stdout carries JSON and nothing else. rich honours NO_COLOR."""

    as_json: bool
    out: Console = field(default_factory=lambda: _console(to_stderr=False))
    err: Console = field(default_factory=lambda: _console(to_stderr=True))

    def result(self, value: object, human: RenderableType) -> None:
        """Print the command's result: `value` for machines, `human` for people."""
        if self.as_json:
            print_json(value)
        else:
            self.out.print(human)

    def note(self, message: str) -> None:
        """Say something on the way; never part of the result."""
        self.err.print(message, markup=False, soft_wrap=True)


def _console(*, to_stderr: bool) -> Console:
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_FILES  # rich assumes 80, which cuts tables in a log or a pipe
    return console


def print_json(value: object) -> None:
    """Write one JSON document and a line end to stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_error(error: EdgeloopError, *, as_json: bool) -> None:
    """Write one message to stderr and, for machines, the same as an object to stdout."""
    console = Console(stderr=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(error.message, markup=False, soft_wrap=True)
    if error.next_step:
        console.print("next:", style="bold", end="  ")
        console.print(error.next_step, markup=False, soft_wrap=True)
    if as_json:
        print_json({"error": error.message, "next_step": error.next_step, "exit_code": int(error.exit_code)})
