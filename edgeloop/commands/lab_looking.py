"""``edgeloop lab boards|jobs|history``: what the lab has, does and did."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from edgeloop.errors import ExitCode
from edgeloop.lab import boards_view, jobs_view
from edgeloop.lab.asking import LabClient, lab_at
from edgeloop.lab.watching import View, watch
from edgeloop.layout import Layout, bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.projects import require_project
from edgeloop.terminal import Terminal
from edgeloop.writing import require_writable
from shared.lab.messages import AskHistory, AskJobs, BoardView, Jobs, JobState, JobView

if TYPE_CHECKING:
    from shared.artifacts.keys import PublicKey

T = TypeVar("T")

WatchOption = Annotated[
    bool, typer.Option("--watch", help="Ask again every second; into a pipe: one line of JSON, or a table, a change.")
]
ProjectOption = Annotated[str | None, typer.Option("--project", help="Only this project's.")]

_NO_BOARDS: Final = "no boards: a place announces its own every few seconds; `edgeloop up` brings emulated ones"
_NO_MATCH: Final = "no board of the lab meets it: `edgeloop lab boards` shows all"
_NO_JOBS: Final = "no jobs wait or run; --all shows those that have ended, `edgeloop lab submit` queues one"


def boards(
    *,
    need: Annotated[
        str, typer.Option("--need", help='Only those that meet it, such as "core in cortex-m4; ram>=64k".')
    ] = "any",
    watching: WatchOption = False,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List boards: how far each is trusted and why, who holds it and for how long, whether its canary is due."""
    terminal, wanted = Terminal(as_json), boards_view.requirement_of(need)
    nothing = _NO_MATCH if wanted.predicates else _NO_BOARDS

    async def run(lab: LabClient) -> None:
        async def look() -> tuple[BoardView, ...]:
            return boards_view.meeting(await lab.boards(), wanted)

        view = View(
            look=look,
            draw=lambda found: boards_view.board_table(found) if found else Text(nothing),
            as_json=lambda found: [board.model_dump(mode="json") for board in found],
            same=lambda found: [board.model_copy(update={"lease_left_s": None}) for board in found],
        )
        await show(view, terminal, watching=watching)

    with_lab(bus_url(nats_url, data), run)


def jobs(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Only this one, with everything known.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, the newest first.", min=1, max=5000)] = 200,
    watching: WatchOption = False,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs: where each is, why it waits and for how long at most, what its attempts came to.

    With JOB the exit code is that of its verdict: 0 passed, flaky or not ended, 1 failed, 3 infrastructure. --watch
    follows it until it ends.
    """
    terminal = Terminal(as_json)
    named = None if project is None else require_project(project)
    question = AskJobs(project=named, ended=every, limit=limit)

    async def run(lab: LabClient) -> ExitCode:
        if job is not None:
            return jobs_view.exit_code_of(await show(job_view(lab, job), terminal, watching=watching))
        view = View(
            look=lambda: lab.jobs(question),
            draw=lambda found: jobs_view.job_table(found) if found.jobs else Text(_NO_JOBS),
            as_json=lambda found: found.model_dump(mode="json"),
            same=_ageless,
        )
        await show(view, terminal, watching=watching)
        return ExitCode.OK

    raise typer.Exit(with_lab(bus_url(nats_url, data), run))


def history(
    *,
    project: ProjectOption = None,
    board: Annotated[str | None, typer.Option("--board", help="Only this board's.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, the newest first.", min=1, max=1000)] = 100,
    trend: Annotated[
        bool, typer.Option("--trend", help="Instruction counts by series, and the gate of ±0.1 % on the last of each.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the results as a JUnit report, too.", dir_okay=False)
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A public key that may sign, PEM; may be repeated. Default: the key of --data."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List signed results of jobs, and how far each is to be trusted.

    What a stranger signed, or somebody altered, is shown and counts for nothing. With --trend the exit code is 1 where
    the last result of a series takes over 0.1 % more instructions than the one before it.
    """
    from edgeloop.lab import history_view, trends  # noqa: PLC0415 - signatures take half a second to load

    terminal = Terminal(as_json)
    if junit is not None:
        require_writable("--junit", junit)
    question = AskHistory(project=None if project is None else require_project(project), board=board, limit=limit)
    documents = with_lab(bus_url(nats_url, data), lambda lab: lab.history(question))
    results = history_view.read_all(documents, _keys(key or [], data))
    for warning in results.warnings:
        terminal.note(warning)
    gated = trends.gated_trends(results.counted) if trend else None
    if junit is not None:
        from shared.interop.junit import junit_xml  # noqa: PLC0415 - only this option needs it

        junit.write_bytes(junit_xml(results.counted))
        terminal.note(f"wrote {len(results.counted)} jobs to {junit}")
    parts: list[RenderableType] = [history_view.history_table(results) if results.read else Text("no results yet")]
    if gated:
        parts += [Text(), trends.trend_view(gated)]
    terminal.result(history_view.as_json(results, gated), Group(*parts))
    if trends.stopped(gated or ()):
        raise typer.Exit(ExitCode.GATE_FAILED)


def job_view(lab: LabClient, job: str) -> View[JobView]:
    """Return the live view of one job, which is over when the job is."""
    return View(
        look=lambda: lab.job(job),
        draw=jobs_view.job_tree,
        as_json=lambda found: found.model_dump(mode="json"),
        same=lambda found: _ageless(Jobs(jobs=(found,), waiting=0)),
        over=lambda found: found.state is JobState.ENDED,
    )


def with_lab(url: str, use: Callable[[LabClient], Awaitable[T]]) -> T:
    """Connect to the lab, and return what `use` makes of it."""

    async def run() -> T:
        async with lab_at(url) as lab:
            return await use(lab)

    return asyncio.run(run())


async def show(view: View[T], terminal: Terminal, *, watching: bool) -> T:
    """Show a view once, or until it is over; return what was seen last."""
    if watching:
        return await watch(view, terminal)
    found = await view.look()
    terminal.result(view.as_json(found), view.draw(found))
    return found


def _keys(named: Sequence[Path], data: Path) -> "tuple[PublicKey, ...]":
    """Return the keys to check signatures with: those named, else that of the stack, if there is one."""
    from edgeloop.artifacts import trusted_keys  # noqa: PLC0415 - signatures take half a second to load

    if not named and not Layout(data).verify_key.is_file():
        return ()
    return trusted_keys(named, data)


def _ageless(found: Jobs) -> object:
    """Return what of jobs changes by events, not by the clock."""
    return [
        job.model_copy(
            update={
                "age_s": 0.0,
                "held": tuple(lease.model_copy(update={"left_s": 0.0, "cap_left_s": 0.0}) for lease in job.held),
            }
        )
        for job in found.jobs
    ], found.waiting
