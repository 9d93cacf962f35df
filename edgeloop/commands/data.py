"""``edgeloop data add``: hand in labelled recordings from the field."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from edgeloop.layout import bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.projects import require_project
from edgeloop.terminal import Terminal
from shared.events.dataset import DatasetRole

app = typer.Typer(help="A project's datasets.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `add` a command of its own although it is the only one."""


@app.command(epilog="Example: edgeloop data add field.npz --project local-fan")
def add(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="An .npz of x (rows, *window), y (class index) and group (person or device).",
            exists=True,
            dir_okay=False,
        ),
    ],
    *,
    project: Annotated[str, typer.Option("--project", help="Its name, as `edgeloop run list` shows it.")],
    role: Annotated[
        DatasetRole, typer.Option(help="Where the data comes from; retraining takes production.")
    ] = DatasetRole.PRODUCTION,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a dataset, store it, and tell the services. The same file twice is one dataset."""
    from edgeloop.datasets import add_dataset, checked, is_known  # noqa: PLC0415 - numpy and SQL: half a second only this command needs

    terminal = Terminal(as_json)
    require_project(project)
    dataset, url = checked(file), bus_url(nats_url, data)
    event, duplicate = asyncio.run(add_dataset(url, project, dataset, role, description=description))
    if not asyncio.run(is_known(url, project)):
        terminal.note(f"nothing was ever pushed to a project {project}; `edgeloop run list` shows those there are")
    said = "was already there" if duplicate else "added"
    terminal.result(
        event.model_dump(mode="json") | {"duplicate": duplicate},
        Text(f"{said}: {event.rows} rows of {event.groups} groups for {project}, {event.blob.digest}"),
    )
