"""``edgeloop demo``: the whole loop in one command."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeloop.errors import InfrastructureError
from edgeloop.layout import Layout
from edgeloop.options import JsonOption
from edgeloop.terminal import Terminal

if TYPE_CHECKING:
    from edgeloop.demo.summary import Proof


def demo(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep everything here; without it, a temporary directory.", file_okay=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up after the end, until Ctrl-C.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for everything together.")] = 900,
    as_json: JsonOption = False,
) -> None:
    """Push a model, watch it reach 24 boards, change the world, watch drift, retraining and the second release.

    Exit code 1 if a gate failed, 3 if something did not happen in time.
    """
    terminal = Terminal(as_json)
    asyncio.run(_until_signal(_play(data and data.absolute(), terminal, keep=keep, timeout_s=timeout_s)))


async def _until_signal(playing: Coroutine[Any, Any, None]) -> None:
    """Run `playing`; SIGINT and SIGTERM cancel it, so that everything it started is stopped."""
    task = asyncio.create_task(playing)
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await task
    except asyncio.CancelledError:
        raise typer.Exit(128 + received[0]) from None  # as a shell reports a signal


async def _play(data: Path | None, terminal: Terminal, *, keep: bool, timeout_s: float) -> None:
    from edgeloop.demo.scenario import data_directory, play  # noqa: PLC0415 - half a second that only a demo needs
    from edgeloop.demo.summary import summarise, summary_tables  # noqa: PLC0415 - as above
    from edgeloop.demo.view import View  # noqa: PLC0415 - as above

    view = View(terminal.err)
    async with data_directory(data) as directory:
        try:
            async with asyncio.timeout(timeout_s) as limit:

                def show(proof: "Proof") -> None:
                    limit.reschedule(None)  # with --keep the stack stays for as long as one likes
                    view.close()
                    terminal.err.print(view.final())
                    terminal.result(summarise(proof).model_dump(mode="json"), summary_tables(proof))

                with view.shown():
                    await play(directory, view, show, keep=keep)
        except TimeoutError as error:
            raise InfrastructureError(
                f"the demo did not end within {timeout_s:g} s",
                next_step=f"edgeloop run list --data {directory}; or less {Layout(directory).logs}/*.log",
            ) from error
