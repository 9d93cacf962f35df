"""Live views: the desk is asked again every second, because what waits and what is left change without any event."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from edgeloop.lab.asking import SilentError
from edgeloop.lab.times import said
from edgeloop.terminal import Terminal, print_json

LOOK_EVERY_S: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """What is watched.

    Attributes:
        look: Ask for it.
        draw: For people.
        as_json: For machines; it is printed whenever `same` of it changed.
        same: What of it matters: ages change all the time.
        over: Whether there is nothing more to see.
    """

    look: Callable[[], Awaitable[T]]
    draw: Callable[[T], RenderableType]
    as_json: Callable[[T], object]
    same: Callable[[T], object]
    over: Callable[[T], bool] = lambda _found: False


async def watch(view: View[T], terminal: Terminal, *, quietly: bool = False) -> T:
    """Show a view until it is over, and return what was seen last.

    On a terminal it is drawn anew; into a pipe it goes, one JSON document a line or one table, at each change.

    Args:
        view: What.
        terminal: Where to.
        quietly: Print nothing but the live view itself: the caller shows the result.

    Raises:
        SilentError: there was no answer to the very first question.
    """
    found, heard_at = await view.look(), time.monotonic()
    printed: object = None
    with _screen(terminal, quietly=quietly) as live:
        while True:
            if not quietly and view.same(found) != printed:
                printed = view.same(found)
                _print_change(view, found, terminal)
            if live is not None:
                live.update(_drawn(view.draw(found), time.monotonic() - heard_at), refresh=True)
            if view.over(found):
                return found
            await asyncio.sleep(LOOK_EVERY_S)
            # A desk that is silent may be starting anew; the view says for how long already.
            with suppress(SilentError):
                found, heard_at = await view.look(), time.monotonic()


@contextmanager
def _screen(terminal: Terminal, *, quietly: bool) -> Iterator[Live | None]:
    """Lend what is drawn on; None where no terminal is."""
    aside = quietly or terminal.as_json
    console = terminal.err if aside else terminal.out
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, transient=aside, auto_refresh=False) as live:
        yield live


def _print_change(view: View[T], found: T, terminal: Terminal) -> None:
    if terminal.as_json:
        print_json(view.as_json(found))
    elif not terminal.out.is_terminal:
        terminal.out.print(view.draw(found))


def _drawn(body: RenderableType, silence_s: float) -> RenderableType:
    if silence_s < 3 * LOOK_EVERY_S:
        return body
    return Group(body, Text(f"the desk has not answered for {said(silence_s)}", "bold red"))
