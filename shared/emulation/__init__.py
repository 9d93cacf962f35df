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


class BoardControl(Protocol):
    """What a lab does to a board from outside, the same on every emulator.

    Whatever boots the firmware returns when it is ready; its errors are those of booting.
    """

    def reset(self) -> None:
        """Pull the reset line, and boot. Flash stays as it is."""

    def hang(self) -> None:
        """Stop the core: no answer comes, and commands wait, until `resume` or a boot."""

    def resume(self) -> None:
        """Let a stopped core go on with the next instruction."""

    def power_cut(self) -> None:
        """Take the supply away: RAM is lost, flash is not, and nothing answers until `power_on`."""

    def power_on(self) -> None:
        """Boot what is in flash."""

    def feed(self, data: bytes) -> None:
        """Let bytes arrive at the second UART, as fast as the firmware reads them. A boot drops the rest."""

    def flash(self) -> bytes:
        """Return what is in the slot now, `ImageBoard.slot_bytes` long, erased bytes as 0xFF."""
