"""A board's console over the bus: bytes both ways while the lease is kept, and an end with the lease."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg
from pydantic import ValidationError

from edgeloop.lab.asking import LabClient, LeaseGoneError, SilentError
from edgeloop.lab.console_stream import Stream
from edgeloop.lab.keeping import keep
from shared.lab.messages import PLACE_ROOT, ConsoleOutput, HeldBoard, Touch

LONGEST_WRITE_BYTES: Final = 4096
FLASH_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a console's bytes come from and go to.

    Attributes:
        typed: Yields bytes; it ends when there will be no more, or when the user leaves.
        show: Takes what the board said.
        tell: Takes a remark that the board did not make.
        stay: After the last byte was typed, go on until the lease is lost.
        linger_s: Otherwise, leave once the board has been quiet for so long.
    """

    typed: Callable[[], AsyncGenerator[bytes, None]]
    show: Callable[[bytes], None]
    tell: Callable[[str], None]
    stay: bool
    linger_s: float


class ConsoleLostError(Exception):
    """The lease is lost; the message says why."""


class Console:
    """One open console."""

    def __init__(self, lab: LabClient, lease: HeldBoard, ends: Ends) -> None:
        """Args: lease: of the board, in hand. ends: this side of it."""
        self._lab, self._lease, self._ends = lab, lease, ends
        self._stream = Stream(lease.token)
        self._patience: asyncio.Timeout | None = None
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self, first: Touch | None = None) -> str:
        """Carry bytes until the user leaves or the lease is lost; return why it was lost, or nothing.

        Args:
            first: What to do to the board before anything is typed, such as a reset.

        Raises:
            EdgeloopError: the place refused what was asked, for another reason than the lease.
        """
        async with self._listening():
            keeping = asyncio.create_task(keep(self._lab, self._lease, time.monotonic))
            typing = asyncio.create_task(self._type(first))
            working: set[asyncio.Future[str]] = {keeping, typing, self._lost}
            try:
                done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (keeping, typing):
                    task.cancel()
                await asyncio.gather(keeping, typing, return_exceptions=True)
            # The user's leaving counts before a loss in the same moment.
            return next(task for task in (typing, keeping, self._lost) if task in done).result()

    async def _type(self, first: Touch | None) -> str:
        try:
            if first is not None:
                await self._touch(first, FLASH_WITHIN_S)
            async with aclosing(self._ends.typed()) as typed:
                async for data in typed:
                    for start in range(0, len(data), LONGEST_WRITE_BYTES):
                        await self._write(data[start : start + LONGEST_WRITE_BYTES])
        except LeaseGoneError as error:
            return error.message
        await self._linger()
        return ""

    async def _linger(self) -> None:
        self._patience = asyncio.timeout(None if self._ends.stay else self._ends.linger_s)
        with suppress(TimeoutError):
            async with self._patience:
                await asyncio.Event().wait()

    async def _write(self, data: bytes) -> None:
        touch = Touch(board=self._lease.board, token=self._lease.token, write=data)
        try:
            await self._touch(touch, 5.0)
        except SilentError:
            # Asking again might type it twice.
            self._ends.tell(f"the place did not answer: {len(data)} typed bytes may not have reached the board")

    async def _touch(self, touch: Touch, timeout_s: float) -> None:
        await self._lab.touch(self._lease.place, touch, timeout_s=timeout_s)

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        subject = f"{PLACE_ROOT}.{self._lease.place}.console.{self._lease.board}"
        subscription = await self._lab.nc.subscribe(subject, cb=self._hear)
        # The server knows of the subscription before the first byte is typed.
        await self._lab.nc.flush()
        try:
            yield
        finally:
            if not self._lab.nc.is_closed:
                await subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        try:
            said = ConsoleOutput.model_validate_json(message.data)
        except ValidationError as error:
            self._ends.tell(
                f"{message.subject}: somebody said what is no console output ({error.error_count()} faults)"
            )
            return
        if said.token > self._lease.token and not self._lost.done():
            self._lost.set_result(f"{said.board}: token {said.token} holds it now")
        if said.token != self._lease.token or self._lost.done():
            return
        self._stream, heard = self._stream.hear(said)
        if self._patience is not None and not self._ends.stay and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + self._ends.linger_s)
        if heard.lost:
            self._ends.tell(f"{heard.lost} bytes were lost on the way")
        if heard.data:
            self._ends.show(heard.data)
