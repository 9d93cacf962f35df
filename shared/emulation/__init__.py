"""Cortex-M boards that run real firmware images without hardware: in-process on Unicorn, or on QEMU."""

from dataclasses import dataclass
from typing import Protocol


class EmulationError(RuntimeError):
    """The firmware did not boot, faulted, or answered something that is not its protocol."""


@dataclass(frozen=True, slots=True)
class FirmwareInfo:
    """What the firmware says of the model it carries."""

    model_digest: str
    """``sha256:<hex>`` of the int8 .tflite that the code was generated from."""
    input_bytes: int
    output_bytes: int
    input_scale: float
    input_zero_point: int
    output_scale: float
    output_zero_point: int


@dataclass(frozen=True, slots=True)
class Inference:
    """The int8 output tensor, and the instructions it took when they were counted."""

    output: bytes
    instructions: int | None


class EmulatedBoard(Protocol):
    """A booted board. Not thread-safe: one caller at a time."""

    emulator: str
    """For example ``unicorn 2.1.4``."""
    info: FirmwareInfo

    def infer(self, tensor: bytes) -> Inference:
        """Run one inference on an int8 input tensor of `info.input_bytes`.

        Raises:
            EmulationError: the board faulted, or did not answer within its instruction limit.
        """

    def stack_bytes(self) -> int:
        """Return the stack's high-water mark since boot, by painting."""

    def close(self) -> None:
        """Free the board."""
