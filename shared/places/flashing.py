"""Flashing by a program: whatever the maker of a board offers, called with the image and the port."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.places.rig import Hear

IMAGE, PORT = "{image}", "{port}"
_LAST_WORDS: Final = 300


class FlashError(RuntimeError):
    """The program did not bring the image onto the board. The message is what it said at last."""


class FlashProgram:
    """One board's way to get firmware, such as ``bossac -p {port} -e -w {image}``."""

    def __init__(self, command: Sequence[str], port: str) -> None:
        """Args: command: program and arguments; `IMAGE` and `PORT` in them stand for a file and the port."""
        self._command: Final = tuple(command)
        self._port: Final = port
        self._process: asyncio.subprocess.Process | None = None

    async def flash(self, image: bytes, hear: Hear) -> None:
        """Run it to its end. What it says is heard as the board's own words are.

        Raises:
            FlashError: it ended with an error, or cannot be started.
        """
        with tempfile.TemporaryDirectory(prefix="edgeloop-flash-") as folder:
            file = Path(folder) / "image.bin"
            file.write_bytes(image)
            command = [word.replace(IMAGE, str(file)).replace(PORT, self._port) for word in self._command]
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                said = f"{command[0]}: {error.strerror}. Next: install it, or correct `flash` in gateway.yaml"
                raise FlashError(said) from error
            try:
                await self._follow(self._process, hear)
            finally:
                await self.stop()

    async def stop(self) -> None:
        """Kill it and what it started. They are gone when this returns."""
        process = self._process
        if process is None:
            return
        # The group outlives its leader where a child of it is left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        self._process = None

    async def _follow(self, process: asyncio.subprocess.Process, hear: Hear) -> None:
        assert process.stdout is not None
        said = b""
        while part := await process.stdout.read(4096):
            hear(part)
            said = (said + part)[-_LAST_WORDS:]
        if code := await process.wait():
            words = " ".join(said.decode("utf-8", "replace").split()) or "nothing"
            raise FlashError(f"{self._command[0]} ended with {code}; it said: {words}")
