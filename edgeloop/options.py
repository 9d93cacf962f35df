"""Options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_DATA: Final = Path(".edgeloop")

DataOption = Annotated[
    Path,
    typer.Option("--data", envvar="EDGELOOP_DATA", help="Directory of the stack's state.", file_okay=False),
]
NatsUrlOption = Annotated[
    str | None,
    typer.Option(
        "--nats-url", envvar="EDGELOOP_NATS_URL", help="The bus; without it, that of the stack running in --data."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; progress stays on stderr.")]
