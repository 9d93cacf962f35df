"""``edgeloop doctor``: what this machine lacks, and how to get it."""

from dataclasses import asdict
from typing import Final

import typer
from rich.table import Column, Table
from rich.text import Text

from edgeloop.checks import Health, examine
from edgeloop.errors import ExitCode
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal

_STYLES: Final = {Health.OK: "green", Health.OPTIONAL: "dim", Health.WARNING: "yellow", Health.FAILED: "bold red"}


def doctor(*, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """Check this machine, and the stack in --data if one runs. Exit code 3 if something that is needed is missing."""
    terminal = Terminal(as_json)
    findings = list(examine(data))
    table = Table(Column(no_wrap=True), Column("check", no_wrap=True), "found", "next step", box=None)
    for finding in findings:
        table.add_row(
            Text(finding.health, _STYLES[finding.health]),
            Text(finding.name),
            Text(finding.found),
            Text(finding.next_step),
        )
    failed = any(finding.health is Health.FAILED for finding in findings)
    terminal.result({"healthy": not failed, "findings": [asdict(finding) for finding in findings]}, table)
    if failed:
        raise typer.Exit(ExitCode.INFRASTRUCTURE)
