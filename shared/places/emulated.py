"""Emulated boards of a place: a process each, which is killed when its holder's time is over."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, ParamSpec, TypeVar

from shared.boards import ImageBoard, image_board
from shared.emulation import EmulationError
from shared.emulation.dut import EmulatedDut
from shared.emulation.emulators import Emulator
from shared.emulation.mcuboot_image import ImageFormatError
from shared.emulation.on_qemu import boot_qemu
from shared.emulation.qemu_process import EmulatorMissingError
from shared.events.lab import BoardClass
from shared.lab.messages import OfferedBoard, WorkState
from shared.lab.verdict import AttemptOutcome
from shared.places.procedure import run_procedure, workload_of
from shared.places.rig import Ended, Hear, NotAbleError, Order, RigError
from shared.places.workers import Worker, WorkerDiedError, Workers
from shared.procedures.rig import emulated_rig
from shared.procedures.staging import BoardRun, SecondOpinion, golden_of

P = ParamSpec("P")
T = TypeVar("T")


class EmulatedRig:
    """A board that exists while it is held. Its identity is its name: nobody can swap it."""

    def __init__(self, name: str, board: ImageBoard, emulator: Emulator, workers: Workers) -> None:
        self._emulator: Final = emulator
        self._workers: Final = workers
        self._worker: Worker | None = None
        self._has_firmware = False
        self._offered = OfferedBoard(
            name=name, board=board.name, board_class=BoardClass.EMULATED, identity=f"emulated {name}"
        )

    @property
    def offered(self) -> OfferedBoard:
        return self._offered

    async def look(self) -> None:
        """There is nothing to see."""

    async def work(self, order: Order, hear: Hear, reached: Callable[[WorkState], None]) -> Ended:
        if order.identity not in ("", self._offered.identity):
            said = f"the work is for {order.identity!r}, this board is {self._offered.identity!r}"
            raise RigError(AttemptOutcome.SWAPPED, f"{said}. Next: submit it again")
        reached(WorkState.RUNNING)
        ended = await self._call(_run, order, self._offered.board, self._emulator)
        hear(f"{ended.said}\r\n".encode())
        return ended

    async def touch(self, write: bytes, hear: Hear, *, reset: bool, image: bytes | None) -> None:
        if image is None and not self._has_firmware:
            raise NotAbleError("the emulated board has no firmware yet. Next: flash an image first")
        self._has_firmware = True
        hear(await self._call(_touch, self._offered.board, write, reset, image))

    async def stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            if worker.busy or self._has_firmware:
                await asyncio.to_thread(worker.kill)
            else:
                self._workers.give_back(worker)
        except WorkerDiedError:
            self._worker = worker
            raise
        self._has_firmware = False

    async def _call(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        worker = self._worker = self._worker or self._workers.take()
        try:
            return await worker.call(function, *arguments)
        except WorkerDiedError as error:
            await self.stop()
            said = f"{error} while it emulated {self._offered.board}. Next: look for the kernel's OOM killer"
            raise RigError(AttemptOutcome.LAB, said) from error


def emulated_rigs(
    place: str, counts: Iterable[tuple[str, int]], emulator: Emulator, workers: Workers
) -> list[EmulatedRig]:
    """Return rigs called ``<place>-<board>-<number>`` for so many of each board of the catalogue that has an image."""
    return [
        EmulatedRig(f"{place}-{board}-{number}", image_board(board), emulator, workers)
        for board, count in counts
        for number in range(1, count + 1)
    ]


# ---- in the worker's process ---------------------------------------------------------------------------------------

_in_hand: EmulatedDut | None = None
"""The firmware under somebody's hands."""


def _run(order: Order, board_name: str, emulator: Emulator) -> Ended:
    board = image_board(board_name)
    case = workload_of(order, board)

    def amend(run: BoardRun) -> BoardRun:
        if emulator is not Emulator.AUTO or run.fault:
            return run
        return replace(run, second_opinion=_second_opinion(order.image, board, golden_of(case[0])))

    try:
        return run_procedure(order.procedure, case, emulated_rig(order.image, board, emulator), amend=amend)
    except RigError as error:
        if isinstance(error.__cause__, EmulatorMissingError):
            raise RigError(error.outcome, f"{error}; or set EDGELOOP_LAB_EMULATOR=unicorn") from error
        raise


def _second_opinion(image: bytes, board: ImageBoard, golden: bytes) -> SecondOpinion | None:
    """Repeat the smoke test on QEMU, where it is installed."""
    try:
        dut = boot_qemu(image, board)
    except EmulatorMissingError:
        return None
    except EmulationError as error:
        raise _qemu_failed(error) from error
    try:
        answer = dut.infer(golden)
        return SecondOpinion(dut.emulator, answer.output, answer.instructions)
    except EmulationError as error:
        raise _qemu_failed(error) from error
    finally:
        dut.close()


def _qemu_failed(error: EmulationError) -> RigError:
    """The firmware ran on Unicorn, so that it is not what has failed."""
    return RigError(
        AttemptOutcome.LAB,
        f"QEMU, asked for a second opinion on firmware that ran on Unicorn: {error}; "
        "set EDGELOOP_LAB_EMULATOR=unicorn to do without",
    )


def _touch(board_name: str, write: bytes, reset: bool, image: bytes | None) -> bytes:
    global _in_hand  # noqa: PLW0603 - the process is one board
    from shared.emulation.on_unicorn import boot_unicorn  # noqa: PLC0415 - as in shared.procedures.rig

    try:
        if image is not None:
            _in_hand = boot_unicorn(image, image_board(board_name))
        assert _in_hand is not None
        if reset:
            _in_hand.control.reset()
        return _in_hand.converse(write)
    except (EmulationError, ImageFormatError) as error:
        raise RigError(AttemptOutcome.HANG, f"{error}. Next: flash another image, or reset") from error
