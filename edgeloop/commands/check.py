"""``edgeloop check``: what a push of this working tree would become, without a bus."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeloop.check_view import check_table, verdict_line
from edgeloop.errors import ExitCode
from edgeloop.layout import compiler_cache, user_cache
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal
from services.artifact_builder.firmware.toolchains import Toolchain

if TYPE_CHECKING:
    from edgeloop.checking import CheckReport


def check(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A working tree with edgeloop.yaml, uncommitted files included.")
    ] = Path(),
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep the artifacts and report.json here.", file_okay=False)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", envvar="EDGELOOP_CACHE", help="Where stages are remembered.", file_okay=False),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every stage.")] = False,
    toolchain: Annotated[Toolchain, typer.Option("--toolchain", help="Which compiler.")] = Toolchain.ZIG,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Build a working tree, judge its data and its model as the services would, and print the report.

    Exit code 1 if a step or a gate failed, 2 if edgeloop.yaml has problems.
    """
    from edgeloop import checking  # noqa: PLC0415 - numpy, imgtool and Unicorn: a second only this command needs

    terminal = Terminal(as_json)
    if out is not None:
        checking.require_replaceable(out)
    bench = checking.Bench(
        data=data,
        cache=None if no_cache else (cache or user_cache()).absolute() / "stages",
        compiler_cache=compiler_cache(),
        toolchain=toolchain,
    )
    report, result = asyncio.run(checking.check(path.resolve(), bench, lambda stage: terminal.note(f"{stage} …")))
    terminal.result(report.model_dump(mode="json") | {"passed": report.passed}, _shown(report))
    if out is not None:
        names = checking.write_files(report, result, out)
        terminal.note(f"wrote {len(names)} files to {out}")
    if not report.passed:
        raise typer.Exit(ExitCode.GATE_FAILED)


def _shown(report: "CheckReport") -> RenderableType:
    parts: list[RenderableType] = [_head(report), _stages(report)]
    if report.boards:
        parts += [Text(), _boards(report)]
    if report.data or report.model:
        named = [(f"data {found.name}", found) for found in report.data]
        named += [(f"model {found.name}", found) for found in report.model]
        parts += [Text(), check_table(named)]
    if report.failure:
        lines = (report.failure.reason, *(f"  {line}" for line in report.failure.last_lines))
        parts += [Text(), Text("\n".join((f"✘ {report.failure.stage}: {lines[0]}", *lines[1:])), "red")]
    return Group(*parts, Text(), verdict_line(report.passed))


def _head(report: "CheckReport") -> Text:
    based = "no commit" if not report.commit.strip("0") else f"commit {report.commit[:8]}"
    changed = f", and {len(report.uncommitted)} uncommitted files as they are" if report.uncommitted else ""
    release = f"\nrelease {report.digest}" if report.digest else ""
    return Text(f"{report.project}: {based}{changed}; its code ran in: {report.sandbox}{release}\n")


def _table(*names: str, numbers: bool = False) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for position, name in enumerate(names):
        table.add_column(name, justify="right" if numbers and position else "left")
    return table


def _stages(report: "CheckReport") -> Table:
    table = _table("stage", "seconds", "")
    for timing in report.stages:
        table.add_row(timing.stage, f"{timing.seconds:.2f}", Text("cached" if timing.cached else "", "dim"))
    return table


def _boards(report: "CheckReport") -> Table:
    table = _table("board", "flash B", "RAM B", "arena B", "instructions", "ms, modelled", numbers=True)
    for board in report.boards:
        counted = "" if board.instructions is None else f"{board.instructions:,}"
        modelled = "" if board.modelled_latency_ms is None else f"{board.modelled_latency_ms:.3g}"
        sizes = (f"{size:,}" for size in (board.flash_bytes, board.ram_bytes, board.arena_bytes))
        table.add_row(board.board, *sizes, counted, modelled)
    return table
