"""What a signed image does on its emulated board: instructions, stack, and whether its bits are the reference's."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.boards import ImageBoard

_EXTREMES: Final = (-128, 127, 0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was counted on an emulated board. No figure is a time."""

    emulator: str
    instructions: int
    """Of one inference, from the first instruction of the model to its last: counted on the first input."""
    stack_bytes: int
    """High-water mark since reset, by painting."""
    inputs: int
    """How many inputs were run and compared with the reference."""
    mismatches: int
    """How many output vectors differ from the reference's in at least one bit."""


def count_instructions(image: bytes, board: ImageBoard, tensor: bytes) -> int:
    """Return the instructions of one inference, from the model's first to its last.

    Args:
        image: the whole MCUboot image.
        board: an emulated board of the catalogue.
        tensor: the int8 input.

    Raises:
        shared.emulation.EmulationError: the firmware faulted or hung.
    """
    from shared.emulation.on_unicorn import boot_unicorn  # noqa: PLC0415 - native code that only a measurement needs

    counting = boot_unicorn(image, board, count_instructions=True)
    try:
        instructions = counting.infer(tensor).instructions
    finally:
        counting.close()
    assert instructions is not None
    return instructions


def probing_inputs(size_bytes: int, rows: int, *, seed: int = 0) -> npt.NDArray[np.int8]:
    """Return inputs that need no dataset: random ones first, then all bytes smallest, largest and zero.

    Returns:
        Shape (rows, size_bytes); the same for the same arguments.
    """
    extremes = np.repeat(np.array(_EXTREMES, np.int8)[:, np.newaxis], size_bytes, axis=1)
    random = np.random.default_rng(seed).integers(-128, 128, (max(rows - len(extremes), 1), size_bytes), np.int8)
    return np.concatenate([random, extremes])[:rows]


def measure(
    image: bytes, board: ImageBoard, inputs: npt.NDArray[np.int8], expected: npt.NDArray[np.int8]
) -> Measurement:
    """Boot a signed image on its emulated board, and run it.

    Args:
        image: the whole MCUboot image.
        board: an emulated board of the catalogue.
        inputs: shape (rows, input bytes); at least one row.
        expected: what the reference runtime gives for them, shape (rows, output bytes).

    Raises:
        shared.emulation.EmulationError: the firmware faulted or hung.
    """
    from shared.emulation.on_unicorn import boot_unicorn  # noqa: PLC0415 - native code that only a measurement needs

    counting = boot_unicorn(image, board, count_instructions=True)
    try:
        instructions = counting.infer(inputs[0].tobytes()).instructions
        stack_bytes = counting.stack_bytes()
    finally:
        counting.close()
    assert instructions is not None
    running = boot_unicorn(image, board)
    try:
        outputs = [running.infer(row.tobytes()).output for row in inputs]
    finally:
        running.close()
    wrong = sum(ours != theirs.tobytes() for ours, theirs in zip(outputs, expected, strict=True))
    return Measurement(
        emulator=counting.emulator,
        instructions=instructions,
        stack_bytes=stack_bytes,
        inputs=len(inputs),
        mismatches=wrong,
    )
