"""``edgeloop dlq ls|show|replay|drop``: messages that no service could handle."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.events import connected
from edgeloop.layout import bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.reading import readable_bus
from edgeloop.terminal import Terminal
from shared.bus import DeadLetterMissingError, DeadLetterRecord, DeadLetters

app = typer.Typer(help="Dead letters: messages that no service could handle.", no_args_is_help=True)

ALL_AT_ONCE = 10_000
REASON_IN_A_TABLE = 200
SequenceArgument = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="As `edgeloop dlq ls` shows it.")]
SequencesArgument = Annotated[
    list[int] | None, typer.Argument(metavar="NUMBER", min=1, help="As `edgeloop dlq ls` shows them.")
]
EveryOption = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("ls")
def list_letters(
    *,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, max=ALL_AT_ONCE, help="At most so many, the oldest first.")] = 100,
    consumer: Annotated[str | None, typer.Option(help="Only those of this consumer.")] = None,
) -> None:
    """List dead letters."""
    terminal = Terminal(as_json)
    with readable_bus(nats_url, data, terminal.note) as url:
        found = asyncio.run(_list(url, limit, consumer))
    terminal.result([_as_json(record) for record in found], _table(found) if found else Text("no dead letters"))


@app.command()
def show(
    number: SequenceArgument,
    *,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: why it died, and what it said."""
    terminal = Terminal(as_json)
    with readable_bus(nats_url, data, terminal.note) as url:
        record = asyncio.run(_get(url, number))
    table = Table(box=None, show_header=False)
    for name, value in _as_json(record).items():
        shown = json.dumps(value, indent=2) if isinstance(value, dict) else str(value)
        table.add_row(Text(name, "bold"), Text(shown))
    terminal.result(_as_json(record), table)


@app.command(epilog="Example: edgeloop dlq replay 3 4")
def replay(
    numbers: SequencesArgument = None,
    *,
    every: EveryOption = False,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish dead letters again, after their cause was mended. Services that had handled one recognise it."""
    _change("replay", numbers, data, nats_url, every=every, as_json=as_json)


@app.command(epilog="Example: edgeloop dlq drop --all")
def drop(
    numbers: SequencesArgument = None,
    *,
    every: EveryOption = False,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget dead letters for good."""
    _change("drop", numbers, data, nats_url, every=every, as_json=as_json)


def _change(
    action: Literal["replay", "drop"],
    numbers: Sequence[int] | None,
    data: Path,
    nats_url: str | None,
    *,
    every: bool,
    as_json: bool,
) -> None:
    if bool(numbers) == every:
        raise UsageError(
            f"edgeloop dlq {action}: give either numbers or --all", next_step="`edgeloop dlq ls` shows them"
        )
    terminal = Terminal(as_json)
    done = asyncio.run(_apply(bus_url(nats_url, data), action, numbers))
    said = "published again" if action == "replay" else "dropped"
    terminal.result({said.replace(" ", "_"): done}, Text(f"{said}: {', '.join(map(str, done)) or 'none'}"))


async def _list(url: str, limit: int, consumer: str | None) -> list[DeadLetterRecord]:
    async with connected(url) as nc:
        return await DeadLetters(nc).list(limit, consumer=consumer)


async def _get(url: str, number: int) -> DeadLetterRecord:
    async with connected(url) as nc:
        try:
            return await DeadLetters(nc).get(number)
        except DeadLetterMissingError as error:
            raise _no_such(number) from error


async def _apply(url: str, action: Literal["replay", "drop"], numbers: Sequence[int] | None) -> list[int]:
    done: list[int] = []
    async with connected(url) as nc:
        letters = DeadLetters(nc)
        chosen = numbers or [record.sequence for record in await letters.list(ALL_AT_ONCE)]
        for number in chosen:
            try:
                if action == "replay":
                    await letters.replay(number)
                else:
                    await letters.drop(number)
            except DeadLetterMissingError as error:
                raise _no_such(number, done) from error
            done.append(number)
    return done


def _no_such(number: int, done: Sequence[int] = ()) -> UsageError:
    before = f"; done before it: {', '.join(map(str, done))}" if done else ""
    return UsageError(
        f"there is no dead letter {number}: it was replayed or dropped, or never was{before}",
        next_step="`edgeloop dlq ls` shows those there are",
    )


def _table(records: Sequence[DeadLetterRecord]) -> Table:
    table = Table("number", "consumer", "subject", "attempts", "died", "reason", box=None)
    for record in records:
        died = f"{record.died_at:%Y-%m-%d %H:%M:%S}" if record.died_at else "-"
        reason = Text(shorten(record.reason, REASON_IN_A_TABLE, placeholder=" …"))
        table.add_row(str(record.sequence), record.consumer, record.subject, str(record.attempts), died, reason)
    return table


def _as_json(record: DeadLetterRecord) -> dict[str, object]:
    try:
        message: object = json.loads(record.data)
    except ValueError:
        message = record.data.hex()  # telemetry is protobuf, and poison can be anything
    return {
        "number": record.sequence,
        "subject": record.subject,
        "stream": record.stream,
        "stream_sequence": record.stream_sequence,
        "consumer": record.consumer,
        "reason": record.reason,
        "attempts": record.attempts,
        "first_seen": record.first_seen.isoformat(),
        "died_at": record.died_at.isoformat() if record.died_at else None,
        "message_id": record.message_id,
        "message": message,
    }
