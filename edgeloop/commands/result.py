"""``edgeloop result verify|junit|history``: what lab jobs came to, as it was signed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from edgeloop.errors import ExitCode
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal

if TYPE_CHECKING:
    from shared.interop.results import JobResult

app = typer.Typer(help="Verify signed results of lab jobs, and report them to other tools.", no_args_is_help=True)

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Signed results: DSSE envelopes, JSON.")]
KeyOption = Annotated[
    list[Path] | None,
    typer.Option("--key", help="A public key that may sign, PEM; may be repeated. Default: the key of --data."),
]


@app.command(epilog="Example: edgeloop result verify job-7.json --key signing.pub.pem")
def verify(
    files: FilesArgument, *, key: KeyOption = None, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Check who signed results of jobs, and show what they say. Exit code 1 if one cannot be trusted.

    Nothing but the files and the trusted keys is needed. A job that failed, honestly signed, is verified.
    """
    terminal = Terminal(as_json)
    results = _verified(files, key or [], data)
    table = Table("job", "project", "board", "verdict", "instructions", "finished", box=None)
    for result in results:
        counted = "" if result.instructions is None else f"{result.instructions:,}"
        cells = (result.job, result.project, result.board, result.verdict, counted, f"{result.finished:%Y-%m-%d %H:%M}")
        table.add_row(*(Text(cell) for cell in cells))
    terminal.result(_plain(results), table)


@app.command(epilog="Example: edgeloop result junit results/*.json --out report.xml")
def junit(
    files: FilesArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="The report to write.", dir_okay=False)],
    key: KeyOption = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Write signed results as one JUnit report, after they were verified."""
    from shared.interop.junit import junit_xml  # noqa: PLC0415 - only this command needs it

    terminal = Terminal(as_json)
    results = _verified(files, key or [], data)
    out.write_bytes(junit_xml(results))
    terminal.result({"out": str(out), "jobs": len(results)}, Text(f"{len(results)} jobs in {out}"))


@app.command(epilog="Example: edgeloop result history results/*.json")
def history(
    files: FilesArgument, *, key: KeyOption = None, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Show how the instructions of each series went, and hold its newest result against the one before.

    A series is what compares: one project, board, class of boards, numerics and toolchain. Exit code 1 if a newest
    result takes over 0.1 % more.
    """
    from edgeloop.lab import trends  # noqa: PLC0415 - only this command needs it

    terminal = Terminal(as_json)
    gated = trends.gated_trends(_verified(files, key or [], data))
    terminal.result([trends.trend_json(each) for each in gated], trends.trend_view(gated))
    if trends.stopped(gated):
        raise typer.Exit(ExitCode.GATE_FAILED)


def _verified(files: Sequence[Path], keys: Sequence[Path], data: Path) -> "tuple[JobResult, ...]":
    from edgeloop.lab.results import verified_results  # noqa: PLC0415 - signatures take half a second to load

    return verified_results(files, keys, data)


def _plain(results: "Sequence[JobResult]") -> object:
    from pydantic import TypeAdapter  # noqa: PLC0415 - as above

    from shared.interop.results import JobResult  # noqa: PLC0415 - as above

    return TypeAdapter(tuple[JobResult, ...]).dump_python(tuple(results), mode="json")
