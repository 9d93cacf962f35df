"""``edgeloop run list|show|watch``: pipeline runs, folded from the events on the bus."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import nats.errors
import nats.js.errors
import typer
from nats.aio.client import Client
from rich.live import Live
from rich.text import Text

from edgeloop.errors import ExitCode, UsageError
from edgeloop.events import connected, follow, history
from edgeloop.layout import bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.reading import readable_bus
from edgeloop.run_view import run_table, run_tree, with_reason
from edgeloop.runs import RUN_EVENTS, Outcome, Run, fold, with_dead_letters
from edgeloop.terminal import Terminal
from shared.bus import DLQ, DeadLetterRecord, DeadLetters
from shared.events import Event, Payload

app = typer.Typer(help="Look at pipeline runs.", no_args_is_help=True)

RUN_APPEARS_S: Final = 3.0
"""A run that a webhook has just answered with is on the bus a moment later."""

RunArgument = Annotated[
    str | None, typer.Argument(metavar="RUN", help="The run's id or its first digits; without it, the newest run.")
]


@app.command("list")
def list_runs(*, data: DataOption = DEFAULT_DATA, nats_url: NatsUrlOption = None, as_json: JsonOption = False) -> None:
    """List the runs the bus still knows, newest last."""
    terminal = Terminal(as_json)
    with readable_bus(nats_url, data, terminal.note) as url:
        runs = asyncio.run(_runs(url))
    nothing = Text("no runs yet: push to a repository with an installed hook (`edgeloop hook install REPO`)")
    terminal.result([run.model_dump(mode="json") for run in runs], run_table(runs) if runs else nothing)


@app.command(epilog="Example: edgeloop run show 59ff3866")
def show(
    run_id: RunArgument = None,
    *,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run. Exit code 1 if it failed."""
    terminal = Terminal(as_json)
    with readable_bus(nats_url, data, terminal.note) as url:
        run = select(asyncio.run(_runs(url)), run_id)
    terminal.result(run.model_dump(mode="json"), with_reason(run, datetime.now(UTC)))
    raise typer.Exit(_exit_code(run))


@app.command(epilog="Example: git push && edgeloop run watch")
def watch(
    run_id: RunArgument = None,
    *,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Give up after so many seconds; 0: never.")] = 0,
) -> None:
    """Draw one run until it ends. Exit code 1 if it failed, 3 if it did not end in --timeout seconds."""
    terminal = Terminal(as_json)
    run = asyncio.run(_watch(bus_url(nats_url, data), run_id, terminal, timeout_s or None))
    terminal.result(run.model_dump(mode="json"), with_reason(run, datetime.now(UTC)))
    raise typer.Exit(_exit_code(run) if run.outcome.is_final else ExitCode.INFRASTRUCTURE)


def select(runs: Sequence[Run], wanted: str | None) -> Run:
    """Return the run whose id begins with `wanted`, or the newest.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [run for run in runs if str(run.run_id).startswith((wanted or "").lower())]
    if not found:
        known = ", ".join(str(run.run_id)[:8] for run in runs[-5:]) or "none yet"
        raise UsageError(
            f"no run {wanted or ''} on this bus; the newest are: {known}", next_step="`edgeloop run list` shows all"
        )
    if wanted and len(found) > 1:
        raise UsageError(f"{len(found)} runs begin with {wanted!r}", next_step="give more digits of the run's id")
    return found[-1]


async def _runs(url: str) -> tuple[Run, ...]:
    async with connected(url) as nc:
        return with_dead_letters(fold(await history(nc, RUN_EVENTS)), await _LetterBox(nc).letters())


class _LetterBox:
    """The dead letters, read again only when there are others: a watch looks twice a second."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._seen = (0, 0)
        self._letters: list[DeadLetterRecord] = []

    async def letters(self) -> list[DeadLetterRecord]:
        """Return all there are; while the bus is away, those of the last look."""
        with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
            state = (await self._nc.jetstream().stream_info(DLQ.name)).state
            if (state.messages, state.last_seq) != self._seen:
                self._letters = await DeadLetters(self._nc).list(state.messages)
                self._seen = (state.messages, state.last_seq)
        return self._letters


async def _watch(url: str, wanted: str | None, terminal: Terminal, timeout_s: float | None) -> Run:
    events: list[Event[Payload]] = []
    run: Run | None = None
    give_up_at = time.monotonic() + RUN_APPEARS_S
    async with connected(url) as nc:
        box = _LetterBox(nc)
        with Live(console=terminal.err, transient=True, auto_refresh=False) as live:
            try:
                async with asyncio.timeout(timeout_s):
                    async for batch in follow(nc, RUN_EVENTS):
                        events += batch.events
                        if not batch.caught_up:
                            continue
                        if batch.events or run is None:
                            # The newest is chosen once: a run that begins later does not take the view over.
                            run = _found(events, str(run.run_id) if run else wanted, give_up_at)
                        if run is None:
                            continue
                        (run,) = with_dead_letters([run], await box.letters())
                        live.update(run_tree(run, datetime.now(UTC)), refresh=True)
                        if run.outcome.is_final:
                            break
            except TimeoutError:
                terminal.note(f"the run did not end within {timeout_s:g} s")
    return run or select(fold(events), wanted)


def _found(events: list[Event[Payload]], wanted: str | None, give_up_at: float) -> Run | None:
    """Return the run to watch; None while one that was just begun may still appear."""
    try:
        return select(fold(events), wanted)
    except UsageError:
        if time.monotonic() > give_up_at:
            raise
        return None


def _exit_code(run: Run) -> ExitCode:
    return ExitCode.GATE_FAILED if run.outcome is Outcome.FAILED else ExitCode.OK
