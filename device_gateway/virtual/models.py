"""Runs firmware: one emulator for each image and kind of board, shared by all boards that run it.

Inference is stateless, so boards with the same image can share a core. One worker thread runs them all: the event
loop stays free for SMP, and a process of virtual boards never takes more than about one core.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shared.boards import ImageBoard
from shared.emulation import EmulatedBoard, EmulationError, FirmwareInfo

T = TypeVar("T")

_LIVE_EMULATORS = 12
"""Three kinds of boards, the release before, the one on trial, and room; the least recently used goes."""


class Models:
    """A pool of booted firmware images."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emulator")
        self._boards: OrderedDict[tuple[str, str], EmulatedBoard] = OrderedDict()

    async def info(self, image: bytes, image_hash: str, board: ImageBoard) -> FirmwareInfo:
        """Boot the image, if it is not running yet, and return what it says of its model.

        Raises:
            EmulationError: it does not boot.
        """
        return await self._run(lambda: self._booted(image, image_hash, board).info)

    async def infer(self, image: bytes, image_hash: str, board: ImageBoard, tensor: bytes) -> bytes:
        """Run one inference and return the int8 output tensor.

        Raises:
            EmulationError: the firmware does not boot, or faulted; the next call boots it again.
        """

        def work() -> bytes:
            try:
                return self._booted(image, image_hash, board).infer(tensor).output
            except EmulationError:
                if (failed := self._boards.pop((image_hash, board.name), None)) is not None:
                    failed.close()
                raise

        return await self._run(work)

    async def close(self) -> None:
        """Stop the worker and free every emulator."""
        await self._run(self._close_all)
        self._worker.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _booted(self, image: bytes, image_hash: str, board: ImageBoard) -> EmulatedBoard:
        key = (image_hash, board.name)
        if key not in self._boards:
            # Unicorn is not needed to run the gateway, nor boards without a model.
            try:
                from shared.emulation.on_unicorn import boot_unicorn  # noqa: PLC0415
            except ImportError as error:
                raise EmulationError(f"running a model needs Unicorn ({error}); install edgeloop[gateway]") from error

            self._boards[key] = boot_unicorn(image, board)
            if len(self._boards) > _LIVE_EMULATORS:
                self._boards.popitem(last=False)[1].close()
        self._boards.move_to_end(key)
        return self._boards[key]

    def _close_all(self) -> None:
        while self._boards:
            self._boards.popitem()[1].close()
