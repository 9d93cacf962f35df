"""A board of a labgrid place: borrowed while somebody of our lab holds it, and given back when they are let go of."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.boards import ImageBoard
from shared.events.lab import BoardClass
from shared.interop.labgrid import BorrowedPlace, LabgridError, PlaceLostError, SharedPort
from shared.lab.inventory import LABGRID
from shared.lab.messages import OfferedBoard, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.at_port import PortRig
from shared.places.rig import Ended, Hear, Order, RigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Borrowed:
    place: BorrowedPlace
    rig: PortRig


class LabgridRig:
    """One board at a labgrid place. Nobody is asked who hangs there before it is held: that would take it from others.

    labgrid's trouble, somebody who has the place or takes it away, is the lab's and never the firmware's.
    """

    def __init__(self, name: str, board: ImageBoard, port: str, at_port: Callable[[SharedPort], PortRig]) -> None:
        """Name the place; it is not borrowed yet.

        Args:
            name: of the board in the lab.
            board: what it is.
            port: ``labgrid:PLACE`` or ``labgrid:PLACE:RESOURCE``.
            at_port: makes what touches the board, from the port that the place shares.
        """
        self._place, _, self._resource = port.removeprefix(LABGRID).partition(":")
        self._at_port: Final = at_port
        self._offered = OfferedBoard(name=name, board=board.name, board_class=BoardClass.PHYSICAL)
        self._borrowing: asyncio.Task[_Borrowed] | None = None

    @property
    def offered(self) -> OfferedBoard:
        return self._offered

    async def look(self) -> None:
        """Nothing: see the class."""

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        borrowed = await self._borrowed()
        ended = await borrowed.rig.work(order, hear, reached)
        self._offered = borrowed.rig.offered
        try:
            await asyncio.to_thread(borrowed.place.require)
        except LabgridError as error:
            raise RigError(AttemptOutcome.LAB, str(error)) from error
        return ended

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        borrowed = await self._borrowed()
        await borrowed.rig.touch(write, hear, reset=reset, image=image)
        self._offered = borrowed.rig.offered

    async def stop(self) -> None:
        borrowing = self._borrowing
        if borrowing is None:
            return
        # labgrid's client may be in the middle of it: only what was borrowed can be given back.
        await asyncio.wait([borrowing])
        if borrowing.exception() is None:
            borrowed = borrowing.result()
            await borrowed.rig.stop()
            await asyncio.to_thread(_give_back, borrowed.place)
        self._borrowing = None

    async def _borrowed(self) -> _Borrowed:
        if self._borrowing is None:
            self._borrowing = asyncio.create_task(asyncio.to_thread(self._borrow))
        borrowing = self._borrowing
        try:
            return await asyncio.shield(borrowing)
        except LabgridError as error:
            if borrowing is self._borrowing:
                self._borrowing = None  # it may be free the next time
            raise RigError(AttemptOutcome.LAB, str(error)) from error

    def _borrow(self) -> _Borrowed:
        place = BorrowedPlace(self._place, port=self._resource)
        place.__enter__()
        try:
            return _Borrowed(place, self._at_port(place.console()))
        except BaseException:
            _give_back(place)
            raise


def _give_back(place: BorrowedPlace) -> None:
    try:
        place.__exit__()
    except PlaceLostError as error:
        log.warning("%s", error)
