"""Standard input for a console: keys one by one from a terminal, bytes until their end from a pipe or file."""

import asyncio
import os
import select
import sys
import termios
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

LEAVE: Final = b"\x1d"
"""Ctrl-]."""
_AT_ONCE: Final = 4096


def up_to_leaving(data: bytes) -> tuple[bytes, bool]:
    """Return what was typed before the user left, and whether they did."""
    before, leave, _ = data.partition(LEAVE)
    return before, bool(leave)


async def typed(descriptor: int, *, keys: bool) -> AsyncGenerator[bytes, None]:
    """Yield what comes in until its end; with `keys`, until Ctrl-].

    A thread reads, because files cannot be awaited; it ends with the iteration and takes no byte afterwards.
    """
    loop, came = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    stop_read, stop_write = os.pipe()

    def read() -> None:
        data = b"-"
        while data:
            ready, _, _ = select.select([descriptor, stop_read], [], [])
            if stop_read in ready:
                return
            data = os.read(descriptor, _AT_ONCE)
            loop.call_soon_threadsafe(came.put_nowait, data)

    reader = threading.Thread(target=read, name="keyboard", daemon=True)
    reader.start()
    try:
        while data := await came.get():
            before, leave = up_to_leaving(data) if keys else (data, False)
            if before:
                yield before
            if leave:
                return
    finally:
        os.write(stop_write, b"-")
        reader.join()
        os.close(stop_read)
        os.close(stop_write)


@contextmanager
def key_by_key(descriptor: int) -> Iterator[None]:
    """Have a terminal hand over every key as it is, Ctrl-C too, and show none; as it was after the block."""
    before = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON)
    raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSADRAIN, raw)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def show(data: bytes) -> None:
    """Write what a board said to standard output, byte for byte, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
