"""``edgeloop up``: every service on this machine, until Ctrl-C."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from edgeloop.errors import UsageError
from edgeloop.layout import Layout, StackState
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.projects import require_project
from edgeloop.stack.fleet import Fleet
from edgeloop.stack.stack import NATS, StackOptions, running
from edgeloop.terminal import Terminal

OR_ANY: Final = "without it, the one of the last time or any free one."


def up(
    *,
    data: DataOption = DEFAULT_DATA,
    nats_url: Annotated[str | None, typer.Option(help="Use this bus instead of an embedded one.")] = None,
    nats_port: Annotated[int | None, typer.Option(min=1, max=65535, help=f"Port of the embedded bus; {OR_ANY}")] = None,
    webhook_port: Annotated[int | None, typer.Option(min=1, max=65535, help=f"Port for webhooks; {OR_ANY}")] = None,
    virtual_boards: Annotated[
        int, typer.Option(min=0, max=512, help="Host so many virtual boards, and a gateway for them.")
    ] = 0,
    project: Annotated[
        str | None, typer.Option(help="Whose releases the boards take, as `edgeloop hook install` prints it.")
    ] = None,
    world: Annotated[
        Path | None,
        typer.Option(
            help="The recordings that the boards play, an .npz of x, y, group and environment.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start the whole stack on this machine and keep it running until Ctrl-C. A process that dies is started again."""
    terminal = Terminal(as_json)
    fleet = _fleet(virtual_boards, project, world)
    asked = {NATS: nats_port, "source_webhook": webhook_port}
    options = StackOptions(
        data=data, nats_url=nats_url, fleet=fleet, asked_ports={name: port for name, port in asked.items() if port}
    )
    asyncio.run(_run(options, terminal))


def stack_table(state: StackState, data: Path) -> Table:
    """Return where everything listens."""
    table = Table("part", "address", "log", box=None)
    for name, url in state.services.items():
        table.add_row(name, url, str(Layout(data).log_of(name)))
    return table


async def _run(options: StackOptions, terminal: Terminal) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    terminal.note("starting …")
    stopping = asyncio.create_task(stop.wait())
    serving = asyncio.create_task(_serve(options, terminal, stop))
    # A signal also ends a start that is still going on.
    await asyncio.wait([stopping, serving], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        serving.cancel()
    stopping.cancel()
    await asyncio.gather(serving, stopping, return_exceptions=True)
    if not serving.cancelled():
        serving.result()
    terminal.note("stopped")


async def _serve(options: StackOptions, terminal: Terminal, stop: asyncio.Event) -> None:
    async with running(options, terminal.note) as (_, state):
        terminal.result(state.model_dump(mode="json"), stack_table(state, options.data))
        terminal.note(f"ready; webhooks go to {state.webhook_url}/webhooks/github; Ctrl-C stops everything")
        await stop.wait()


def _fleet(boards: int, project: str | None, world: Path | None) -> Fleet | None:
    if not boards:
        if project or world:
            raise UsageError("--project and --world belong to --virtual-boards", next_step="add --virtual-boards 24")
        return None
    if project is None or world is None:
        missing = "--project" if project is None else "--world"
        raise UsageError(
            f"--virtual-boards needs {missing}",
            next_step="edgeloop up --virtual-boards 24 --project NAME --world world.npz (world.py of an example)",
        )
    return Fleet(boards=boards, project=require_project(project), world=world)
