"""``edgeloop hook install``: make a git repository on this machine tell Edgeloop about pushes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.githook import install as install_hook
from edgeloop.layout import Layout, running_stack
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal

app = typer.Typer(help="Let a git repository tell Edgeloop about pushes.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `install` a command of its own although it is the only one."""


@app.command(epilog="Example: edgeloop hook install ~/models/fan.git")
def install(
    repository: Annotated[Path, typer.Argument(metavar="REPO", help="A git repository that people push to.")],
    *,
    url: Annotated[
        str | None, typer.Option(help="The webhook to call; without it, that of the stack running in --data.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(help="File with the webhook's secret; without it, the stack's.", exists=True, dir_okay=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="OWNER/NAME, which gives the project; without it, local/ and the directory's name."),
    ] = None,
    clone_url: Annotated[
        str | None, typer.Option(help="Where the builder clones from; without it, the repository's file:// address.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a hook that Edgeloop did not write.")] = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Install a post-receive hook that sends a signed, GitHub-style push webhook for every branch that changes."""
    terminal = Terminal(as_json)
    webhook = url or f"{running_stack(data).webhook_url}/webhooks/github"
    secret = _secret(secret_file or Layout(data).webhook_secret)
    local = None if url else data
    installed = install_hook(
        repository, url=webhook, secret=secret, name=name, clone_url=clone_url, data=local, force=force
    )
    if not installed.bare:
        terminal.note(f"{repository} is a working copy: the hook runs when somebody pushes to it, not on commits in it")
    terminal.result(
        {
            "hook": str(installed.hook),
            "url": webhook,
            "repository": installed.clone_url,
            "project": installed.project,
        },
        Text(f"installed {installed.hook}\npushes to it become runs of project {installed.project}"),
    )


def _secret(file: Path) -> str:
    try:
        secret = file.read_text("utf-8").strip()
    except FileNotFoundError as error:
        raise UsageError(
            f"{file}: there is no secret to sign with", next_step="name a file that holds it with --secret-file"
        ) from error
    if not secret:
        raise UsageError(f"{file} is empty; it must hold the webhook's secret")
    return secret
