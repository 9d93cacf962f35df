"""``edgeloop lab reserve|lease|release|health``: boards for a person, and what people say of boards."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgeloop.commands.lab_looking import with_lab
from edgeloop.errors import ExitCode, UsageError
from edgeloop.lab import reserving, tickets
from edgeloop.lab.asking import LabClient
from edgeloop.lab.boards_view import board_table
from edgeloop.lab.jobs_view import job_tree, lease_line
from edgeloop.lab.times import said
from edgeloop.layout import bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.projects import require_project
from edgeloop.terminal import Terminal
from shared.lab import JobKind
from shared.lab.messages import BoardView, HealthAction, JobView, Submit

lease = typer.Typer(help="Look at the boards that you hold, and keep them.", no_args_is_help=True)

NeedOption = Annotated[
    list[str] | None,
    typer.Option("--need", help='What a board must have, such as "core in cortex-m4; ram>=64k"; repeat for several.'),
]
BoardsOption = Annotated[
    list[str] | None, typer.Option("--board", help="Only boards of this name in the catalogue; may be repeated.")
]
CountOption = Annotated[int, typer.Option("--count", help="So many of each need, all at once or none.", min=1)]
PriorityOption = Annotated[
    int, typer.Option("--priority", help="Among the project's own jobs.", min=-10, max=10, clamp=False)
]
TokenOption = Annotated[int | None, typer.Option("--token", help="Of a lease that you did not reserve here.", min=1)]


def reserve(
    *,
    need: NeedOption = None,
    board: BoardsOption = None,
    count: CountOption = 1,
    project: Annotated[str, typer.Option("--project", help="Whose share of the lab it takes.")] = "people",
    duration: Annotated[str, typer.Option("--for", help="The longest that you keep them, such as 30m.")] = "30m",
    priority: PriorityOption = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until they are yours; Ctrl-C withdraws.")] = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="Wait, then renew in the foreground; Ctrl-C gives them back.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reserve boards for yourself. A lease ends unless it is renewed: --hold, `lease renew` or a console does that."""
    terminal, bus = Terminal(as_json), bus_url(nats_url, data)
    order = Submit(
        id=reserving.new_job_id("reserve"),
        project=require_project(project),
        kind=JobKind.RESERVATION,
        demands=reserving.demands_of(need or [], board or [], count),
        priority=priority,
        limit_s=reserving.seconds_of(duration, "--for"),
        holder=reserving.me(),
    )

    async def run(lab: LabClient) -> ExitCode:
        if not (wait or hold):
            job = await lab.submit(order)
            tickets.remember(data, bus, [job])
            terminal.result(job.model_dump(mode="json"), Group(job_tree(job), _what_next(job)))
            return ExitCode.OK
        terminal.note(f"waiting for {len(order.demands)} board(s) as {order.id}; Ctrl-C withdraws")
        job = await reserving.granted(lab, order, data, bus)
        terminal.result(job.model_dump(mode="json"), Group(*map(lease_line, job.held), _what_next(job)))
        if not hold:
            return ExitCode.OK
        terminal.note("holding; Ctrl-C gives them back")
        lost = await reserving.hold(lab, job.held, terminal.note)
        await reserving.refreshed(lab, data, bus)
        return ExitCode.INFRASTRUCTURE if lost else ExitCode.OK

    raise typer.Exit(with_lab(bus, run))


@lease.command("list")
def list_leases(
    *, data: DataOption = DEFAULT_DATA, nats_url: NatsUrlOption = None, as_json: JsonOption = False
) -> None:
    """List the boards that you hold or wait for, reserved from this data directory."""
    terminal, bus = Terminal(as_json), bus_url(nats_url, data)
    jobs = with_lab(bus, lambda lab: reserving.refreshed(lab, data, bus))
    nothing = Text("you hold no boards, and wait for none: `edgeloop lab reserve` asks for some")
    terminal.result([job.model_dump(mode="json") for job in jobs], _lease_table(jobs) if jobs else nothing)


@lease.command("renew", epilog="Example: edgeloop lab lease renew m4-1")
def renew_leases(
    boards: Annotated[list[str] | None, typer.Argument(metavar="BOARD", help="Without any: all that you hold.")] = None,
    *,
    token: TokenOption = None,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Renew leases once. Exit code 3 if one was lost."""
    terminal, bus = Terminal(as_json), bus_url(nats_url, data)
    if token is not None and len(boards or ()) != 1:
        raise UsageError("--token is that of one board", next_step="name that board: edgeloop lab lease renew BOARD")

    async def run(lab: LabClient) -> ExitCode:
        kept, lost = await reserving.renewed(lab, await chosen(lab))
        await reserving.refreshed(lab, data, bus)
        for reason in lost:
            terminal.note(f"lost: {reason}")
        found = [each.model_dump(mode="json") for each in kept]
        terminal.result({"renewed": found, "lost": lost}, Group(*map(lease_line, kept)) if kept else Text("none"))
        return ExitCode.INFRASTRUCTURE if lost else ExitCode.OK

    async def chosen(lab: LabClient) -> Sequence[tuple[str, int]]:
        names = boards or []
        if token is not None:
            return [(name, token) for name in names]
        if names:
            held = [await reserving.held_board(lab, name, data, bus) for name in names]
        else:
            held = [each for _, each in await reserving.mine(lab, data, bus)]
        return [(each.board, each.token) for each in held]

    raise typer.Exit(with_lab(bus, run))


def release(
    name: Annotated[str, typer.Argument(metavar="BOARD|JOB", help="A board that you hold, or any job by its id.")],
    *,
    token: TokenOption = None,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a board back before its time, or end a job wherever it is: a reservation, or one that waits or runs."""
    terminal, bus = Terminal(as_json), bus_url(nats_url, data)
    freed = with_lab(bus, lambda lab: reserving.given_back(lab, name, token, data, bus))
    human = f"gave back {', '.join(freed)}" if freed else f"{name} is ended; it held no board"
    terminal.result({"released": list(freed)}, Text(human))


def health(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="As `edgeloop lab boards` shows it.")],
    action: Annotated[HealthAction, typer.Argument(help="retire is for good; bring-back begins with probation.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="For whoever looks at the board next.")] = "",
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a board out for maintenance, bring it back, or retire it."""
    if action is not HealthAction.BRING_BACK and not reason.strip():
        raise UsageError(
            f"edgeloop lab health {board} {action}: found no reason; others will look for one",
            next_step=f'say why: edgeloop lab health {board} {action} --reason "…"',
        )
    terminal = Terminal(as_json)

    async def run(lab: LabClient) -> BoardView:
        return await lab.set_health(board, action, reason.strip())

    found = with_lab(bus_url(nats_url, data), run)
    terminal.result(found.model_dump(mode="json"), board_table([found]))


def _what_next(job: JobView) -> Text:
    if not job.held:
        said_ = f"it waits: `edgeloop lab jobs {job.id} --watch` follows it; what is granted and not renewed ends"
        return Text(said_, "dim")
    soonest = min(each.left_s for each in job.held)
    names = " ".join(each.board for each in job.held[:1])
    return Text(
        f"renew within {said(soonest)}: `edgeloop lab lease renew`, or open `edgeloop lab console {names}`", "dim"
    )


def _lease_table(jobs: Sequence[JobView]) -> Table:
    table = Table("board", "place", "token", "left", "in all", "job", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for job in jobs:
        for each in job.held:
            table.add_row(each.board, each.place, str(each.token), said(each.left_s), said(each.cap_left_s), job.id)
        if not job.held:
            table.add_row("", "", "", "", "", f"{job.id} waits: {job.waits_for}")
    return table
