"""``edgeloop lab console``: talk to a board that you hold."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from edgeloop.commands.lab_asking import TokenOption
from edgeloop.commands.lab_looking import with_lab
from edgeloop.errors import ExitCode, InfrastructureError
from edgeloop.lab import keyboard, reserving
from edgeloop.lab.asking import LabClient
from edgeloop.lab.console import Console, Ends
from edgeloop.layout import bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, NatsUrlOption
from edgeloop.terminal import Terminal, print_error
from shared.lab.messages import HeldBoard, Touch


def console(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="A board that you hold: `edgeloop lab lease list`.")],
    *,
    flash: Annotated[
        str | None, typer.Option("--flash", metavar="FILE|DIGEST", help="Write this signed image to it first.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Reset it first.")] = False,
    echo: Annotated[bool, typer.Option("--echo", help="Show what is typed: firmware mostly does not.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on after the input has ended.")] = False,
    linger_s: Annotated[
        float, typer.Option("--linger", help="Otherwise leave after so many seconds of silence.", min=0)
    ] = 1.0,
    token: TokenOption = None,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
) -> None:
    """Talk to a board that you hold, byte for byte, while its lease is renewed. Ctrl-] leaves, and keeps the lease.

    It closes by itself when the lease is lost, with exit code 3. Where standard input is no terminal, its bytes are
    sent, and what the board says goes to standard output; remarks go to standard error.
    """
    bus, terminal, at_keys = bus_url(nats_url, data), Terminal(as_json=False), sys.stdin.isatty()

    async def run(lab: LabClient) -> str:
        lease = await _lease(lab, board, token, data, bus)
        image = None if flash is None else await _image(lab, board, flash)
        first = Touch(board=board, token=lease.token, reset=reset, flash=image) if reset or image else None
        descriptor = sys.stdin.fileno()

        async def typed() -> AsyncGenerator[bytes, None]:
            async with aclosing(keyboard.typed(descriptor, keys=at_keys)) as came:
                async for keys in came:
                    if echo:
                        keyboard.show(keys)
                    yield keys

        ends = Ends(
            typed=typed, show=keyboard.show, tell=terminal.note, stay=follow, linger_s=0 if at_keys else linger_s
        )
        with keyboard.key_by_key(descriptor) if at_keys else nullcontext():
            if at_keys:
                terminal.note(f"{board} at {lease.place}; Ctrl-] leaves")
            return await Console(lab, lease, ends).run(first)

    if lost := with_lab(bus, run):
        print_error(
            InfrastructureError(f"the console is closed: {lost}", next_step="reserve it again: `edgeloop lab reserve`"),
            as_json=False,
        )
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


async def _image(lab: LabClient, board: str, target: str) -> str:
    from edgeloop.lab.images import image_digest  # noqa: PLC0415 - releases take a while to load
    from shared.store import Blobs  # noqa: PLC0415 - as above

    named = next((each.board for each in await lab.boards() if each.name == board), board)
    return await image_digest(Blobs(lab.nc.jetstream()), target, named)


async def _lease(lab: LabClient, board: str, token: int | None, data: Path, bus: str) -> HeldBoard:
    """Return the lease of a board, renewed: what was shown long ago may be over."""
    if token is None:
        token = (await reserving.held_board(lab, board, data, bus)).token
    return await lab.renew(board, token)
