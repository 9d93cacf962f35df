"""Tests of one firmware on one board, each a module: an edge that asks the board, and a pure judgement of what it said.

`shared.procedures.table` has them by name. Who runs them brings the board: the device lab's worker, or a command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shared.boards import ImageBoard
from shared.emulation.dut import Dut
from shared.events import Check
from shared.events.lab import Numerics
from shared.releases.gates import passes
from shared.releases.release import Quantisation

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Workload:
    """What is known of a firmware's model without asking a board.

    Attributes:
        board: What it was built for.
        model_digest: Of the int8 .tflite.
        inputs: Quantised windows, shape (rows, input bytes). The first is the golden vector.
        expected: The reference runtime's output tensors for them, shape (rows, output bytes).
        labels: Class index of each row, shape (rows,); None where nobody knows it.
        static_ram_bytes: Without the stack.
        accuracy: What is asked of it at least; None asks nothing.
        ram_bytes: What it may take, stack included; None is the board's RAM.
        golden_input: What staging asks first; None: the first row.
    """

    board: ImageBoard
    model_digest: str
    inputs: npt.NDArray[np.int8]
    expected: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64] | None = None
    numerics: Numerics = Numerics.TFLM
    static_ram_bytes: int = 0
    accuracy: float | None = None
    ram_bytes: int | None = None
    golden_input: bytes | None = None


@dataclass(frozen=True, slots=True)
class SensorWindows:
    """Windows as the sensor gives them, before they are quantised.

    Attributes:
        x: Shape (rows, time, …, channels), float32.
        quantisation: Of the model's input.
        sensors: Which channels belong to which sensor.
    """

    x: npt.NDArray[np.float32]
    quantisation: Quantisation
    sensors: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of it. Each procedure takes what concerns it.

    Attributes:
        inferences: Of an endurance run.
        seconds: An endurance run ends then at the latest; None waits for all inferences.
        reset_every: Inferences between two resets of an endurance run; every other one cuts the supply.
        hop_bytes: By how much the window moves on in a played trace; None: windows do not overlap.
        windows: What sensor variability disturbs.
        seed: Of everything random.
    """

    inferences: int = 1000
    seconds: float | None = None
    reset_every: int = 100
    hop_bytes: int | None = None
    windows: SensorWindows | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rig:
    """How a firmware comes onto a board that the procedure may do with as it likes."""

    boot: Callable[[], Dut]
    boot_counting: Callable[[], Dut]
    """Counts instructions, which may take several times as long."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a procedure found. Figures say in their names what they are; nothing in them is a time on silicon."""

    procedure: str
    board: str
    emulator: str
    checks: tuple[Check, ...]
    figures: Mapping[str, Json] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return passes(self.checks)


class ProcedureError(ValueError):
    """The procedure cannot be run with what it was given. The message says what is missing."""
