"""The procedures by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.procedures import Effort, Report, Rig, Workload, acceptance, endurance, parity, playback, smoke, variability


@dataclass(frozen=True, slots=True)
class Procedure:
    """One test: what it is for, and how it is run.

    `run` raises `ProcedureError` when it was given too little, and EmulationError when the board faults or hangs.
    """

    purpose: str
    run: Callable[[Workload, Rig, Effort], Report]


PROCEDURES: Final[Mapping[str, Procedure]] = {
    "smoke": Procedure("boots, answers, one golden inference, sensors alive", smoke.run),
    "acceptance": Procedure("accuracy, memory and instructions on the board", acceptance.run),
    "parity": Procedure("every output vector is the reference's, bit by bit", parity.run),
    "playback": Procedure("a recorded trace through the second UART", playback.run),
    "variability": Procedure("accuracy against what sensors do to their signals", variability.run),
    "endurance": Procedure("the same bits and stack, inference after inference, boot after boot", endurance.run),
}
