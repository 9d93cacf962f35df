"""Checks as people see them."""

from collections.abc import Iterable
from typing import Final

from rich.table import Column, Table
from rich.text import Text

from shared.events import Check, CheckOutcome

_MARKS: Final = {CheckOutcome.PASSED: ("✔", "green"), CheckOutcome.FAILED: ("✘", "bold red")}


def check_table(checks: Iterable[tuple[str, Check]]) -> Table:
    """Return a line for each name and its check, and under it what to do where it did not pass."""
    table = Table(Column("", no_wrap=True), Column("check", no_wrap=True), "observed", "allowed", box=None)
    for name, found in checks:
        table.add_row(_mark(found), Text(name), Text(found.observed), Text(found.allowed))
        if found.detail:
            table.add_row("", "", Text(f"next: {found.detail}", "yellow"), "")
    return table


def verdict_line(passed: bool) -> Text:
    """Return the last line of a report."""
    return Text("✔ passed", "bold green") if passed else Text("✘ not passed", "bold red")


def _mark(found: Check) -> Text:
    mark, style = _MARKS.get(found.outcome, ("?", "yellow"))
    return Text(mark, style)
