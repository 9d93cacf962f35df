"""Runs one image on several emulated boards at once, each in a process of its own, and keeps every output vector."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeloop.errors import InfrastructureError
from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.emulation.emulators import Emulator
from shared.emulation.on_qemu import EmulatorMissingError
from shared.procedures import parity
from shared.procedures.rig import emulated_rig


@dataclass(frozen=True, slots=True)
class Counted:
    """One inference whose instructions were counted."""

    emulator: str
    instructions: int


def count(image: bytes, board: ImageBoard, emulator: Emulator, tensor: bytes) -> Counted:
    """Count the instructions of one inference, from the model's first to its last.

    Raises:
        InfrastructureError: the emulator is missing, or the firmware faulted on it.
    """
    try:
        with closing(emulated_rig(image, board, emulator).boot_counting()) as running:
            answer = running.infer(tensor)
    except EmulatorMissingError as error:
        raise InfrastructureError(str(error), next_step="leave --emulator out: Unicorn comes with Edgeloop") from error
    except EmulationError as error:
        raise InfrastructureError(f"{board.name}: {error}") from error
    assert answer.instructions is not None
    return Counted(running.emulator, answer.instructions)


def run_all(
    image: bytes, board: ImageBoard, emulator: Emulator, tensors: npt.NDArray[np.int8], *, boards: int
) -> list[bytes]:
    """Run every row on one of `boards` emulated boards, and return the output vectors in the order of the rows.

    Every board gets one stretch of the rows, so that a model with state sees rows in their order.

    Raises:
        InfrastructureError: an emulator ended, or the firmware faulted; the message names the row.
    """
    stretches = [part for part in np.array_split(tensors, max(1, boards)) if len(part)]
    firsts = np.cumsum([0, *(len(part) for part in stretches[:-1])])
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(len(stretches), mp_context=context) as pool:
            runs = [
                pool.submit(_run, image, board, emulator, part, int(first))
                for part, first in zip(stretches, firsts, strict=True)
            ]
            return _joined([run.result() for run in runs])
    except EmulationError as error:
        raise InfrastructureError(f"{board.name}: {error}") from error
    except BrokenProcessPool as error:
        raise InfrastructureError(
            f"an emulator's process ended by itself while it ran {board.name}",
            next_step="look for the kernel's OOM killer, or take fewer boards at once with --boards",
        ) from error


def _run(
    image: bytes, board: ImageBoard, emulator: Emulator, tensors: npt.NDArray[np.int8], first: int
) -> Sequence[bytes]:
    with closing(emulated_rig(image, board, emulator).boot()) as running:
        return parity.answers(running, tensors, first=first)


def _joined(parts: Sequence[Sequence[bytes]]) -> list[bytes]:
    return [output for part in parts for output in part]
