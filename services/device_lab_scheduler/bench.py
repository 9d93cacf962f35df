"""The emulated boards of the lab: a process each, so that cores are used and the event loop stays alive."""

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.emulators import Emulator
from shared.emulation.mcuboot_image import ImageFormatError
from shared.emulation.on_qemu import EmulatorMissingError, boot_qemu
from shared.procedures import Rig, parity, smoke
from shared.procedures.acceptance import score_of
from shared.procedures.rig import emulated_rig
from shared.procedures.staging import BoardRun, SecondOpinion


class BenchError(RuntimeError):
    """The lab itself failed. It says nothing about the release."""


@dataclass(frozen=True, slots=True)
class BoardJob:
    """One firmware, the board to run it on, and what to ask of it.

    Attributes:
        image: The signed MCUboot image, as it will be installed.
        inputs: Quantised windows, shape (rows, *input shape).
        labels: Class index of each row, shape (rows,).
        expected: TFLM's output tensors, shape (rows, classes).
    """

    image: bytes
    board: ImageBoard
    golden_input: bytes
    inputs: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]
    expected: npt.NDArray[np.int8]


class Bench:
    """Worker processes that live as long as the service, started with the first job."""

    def __init__(self, emulator: Emulator, *, workers: int, board_deadline_s: float) -> None:
        self._emulator: Final = emulator
        self._workers: Final = workers
        self._deadline_s: Final = board_deadline_s
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, jobs: Sequence[BoardJob]) -> list[BoardRun]:
        """Run every job; return what the boards did, in the order of `jobs`.

        Raises:
            BenchError: a worker process died, or a board did not finish in time.
        """
        loop = asyncio.get_running_loop()
        runs: list[asyncio.Future[BoardRun]] = []
        try:
            pool = self._open()
            runs.extend(loop.run_in_executor(pool, run_on_board, job, self._emulator, self._deadline_s) for job in jobs)
            return await asyncio.gather(*runs)
        except BrokenExecutor as error:
            self.close()
            boards = ", ".join(job.board.name for job in jobs)
            raise BenchError(
                f"a lab worker process died while it emulated {boards} ({error}); look for the kernel's OOM killer"
            ) from error
        finally:
            for run in runs:
                run.cancel()

    def close(self) -> None:
        """End the worker processes, whatever they are doing."""
        if self._pool is not None:
            # ProcessPoolExecutor.kill_workers() is public from Python 3.14 on.
            workers = list((self._pool._processes or {}).values())  # noqa: SLF001 - see above
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            for worker in workers:
                worker.kill()

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=multiprocessing.get_context("spawn"), initializer=_die_with_parent
            )
        return self._pool


def run_on_board(job: BoardJob, emulator: Emulator, deadline_s: float) -> BoardRun:
    """Run one firmware image on an emulated board: smoke test, then every row.

    Raises:
        BenchError: the board was not through after `deadline_s` seconds, or the emulator is not installed.
    """
    started = time.monotonic()
    run = BoardRun(board=job.board.name)
    try:
        rig = emulated_rig(job.image, job.board, emulator)
        run = _smoke_test(run, job, rig)
        run = _acceptance_test(run, job, rig, started + deadline_s)
    except EmulatorMissingError as error:
        raise BenchError(f"{error}; or set EDGELOOP_LAB_EMULATOR=unicorn") from error
    except (EmulationError, ImageFormatError) as error:
        run = replace(run, fault=str(error))
    if emulator is Emulator.AUTO and not run.fault:
        run = replace(run, second_opinion=_second_opinion(job))
    return replace(run, seconds=time.monotonic() - started)


def _smoke_test(run: BoardRun, job: BoardJob, rig: Rig) -> BoardRun:
    with closing(rig.boot_counting()) as board:
        found = smoke.observe(board, job.golden_input)
    return replace(
        run,
        emulator=found.emulator,
        model_digest=found.model_digest,
        golden_output=found.output,
        instructions=found.instructions or 0,
    )


def _acceptance_test(run: BoardRun, job: BoardJob, rig: Rig, deadline: float) -> BoardRun:
    def require_time(row: int) -> None:
        if time.monotonic() > deadline:
            raise BenchError(
                f"{job.board.name} had answered {row} of {len(job.inputs)} rows when its time was over; "
                "raise EDGELOOP_LAB_BOARD_DEADLINE_S, or give the lab fewer workers than cores"
            )

    with closing(rig.boot()) as board:
        outputs = parity.answers(board, job.inputs, before=require_time)
        stack_bytes = board.stack_bytes()
    compared = parity.compare(outputs, job.expected)
    return replace(
        run,
        inputs=compared.inputs,
        correct=score_of(outputs, job.labels).correct,
        mismatches=compared.mismatches,
        first_mismatch=compared.first,
        stack_bytes=stack_bytes,
    )


def _second_opinion(job: BoardJob) -> SecondOpinion | None:
    """Repeat the smoke test on QEMU, where it is installed.

    Raises:
        BenchError: QEMU hung or ended. The firmware ran on Unicorn, so that it is not what has failed.
    """
    try:
        with closing(boot_qemu(job.image, job.board)) as board:
            answer = board.infer(job.golden_input)
            return SecondOpinion(board.emulator, answer.output, answer.instructions)
    except EmulatorMissingError:
        return None
    except EmulationError as error:
        raise BenchError(
            f"QEMU, asked for a second opinion on firmware that ran on Unicorn: {error}; "
            "set EDGELOOP_LAB_EMULATOR=unicorn to do without"
        ) from error


def _die_with_parent() -> None:
    """Leave when the service is gone, even by SIGKILL: an orphan would wait for jobs for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
