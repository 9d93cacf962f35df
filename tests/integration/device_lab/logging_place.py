"""A place whose boards write down in a file whose bytes reach them: ``logging_place.py URL PLACE FILE BOARD...``."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.bus import connect
from shared.events.lab import BoardClass
from shared.lab.messages import OfferedBoard, WorkState
from shared.places.rig import Ended, Hear, Order
from shared.places.serving import serve_place

BYTE_S = 0.05


@dataclass
class LoggingBoard:
    """Its work ends after a while; only `stop` ends it before."""

    name: str
    file: Path
    worker: "asyncio.Task[None] | None" = None

    @property
    def offered(self) -> OfferedBoard:
        return OfferedBoard(
            name=self.name, board="cortex-m4", board_class=BoardClass.PHYSICAL, identity=f"serial {self.name}"
        )

    def note(self, who: str) -> None:
        line = {"board": self.name, "agent": os.getpid(), "who": who}
        with self.file.open("a") as log:
            log.write(json.dumps(line) + "\n")

    async def look(self) -> None:
        await asyncio.sleep(0)

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        self.worker = asyncio.create_task(self._write(order.procedure))
        worker = self.worker
        reached(WorkState.RUNNING)
        hear(b"booted")
        await asyncio.wait([worker])
        return Ended(passed=not worker.cancelled(), said="", report=b"{}")

    async def _write(self, who: str) -> None:
        for _ in range(20):
            self.note(who)
            await asyncio.sleep(BYTE_S)

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        assert not reset
        assert image is None
        self.note(write.decode())
        hear(b"echo")

    async def stop(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.wait([worker])
        self.note("")


async def no_bytes(_digest: str) -> bytes:
    """What is flashed is of no account here."""
    return b"-"


async def main(url: str, place: str, file: str, *boards: str) -> None:
    """Serve until killed."""
    nc = await connect(url, name=place, deadline_s=60)
    await serve_place(nc, place, [LoggingBoard(name, Path(file)) for name in boards], no_bytes, announce_s=0.3)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
