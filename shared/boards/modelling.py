"""Latency and energy of an inference, modelled from counted instructions and from what others measured on silicon.

Emulators count instructions; they know no cache, no wait state and no current. So each figure says that it is modelled,
from what, and how far it may be off. A measured figure is never mixed with a modelled one.
"""

from dataclasses import dataclass

from shared.boards import Board, ImageBoard
from shared.events.lab import Origin


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity, how it came to be, and on what basis."""

    value: float | None
    """None when there is no basis; `basis` then says what is missing."""
    origin: Origin
    basis: str

    @property
    def rounded(self) -> float | None:
        """The number with six digits: no figure here has more that mean something."""
        return None if self.value is None else float(f"{self.value:.6g}")

    def fields(self, name: str) -> dict[str, float | str | None]:
        """Return the figure as members of a JSON object: the number under `name`, and beside it what it is."""
        return {
            name: self.rounded,
            f"{name}_class": self.origin.value,
            f"{name}_basis": self.basis,
        }


def modelled_latency(instructions: int, board: ImageBoard) -> Figure:
    """Return how long an inference takes at the board's clock, in milliseconds."""
    timing = board.timing
    return Figure(
        value=instructions * timing.cycles_per_instruction / board.clock_hz * 1e3,
        origin=Origin.MODELLED,
        basis=f"{instructions:,} instructions x {timing.cycles_per_instruction:g} cycles at "
        f"{board.clock_hz / 1e6:g} MHz, ± {timing.uncertainty:.0%}; cycles: {timing.basis}",
    )


def modelled_energy(latency: Figure, board: Board) -> Figure:
    """Return what an inference takes of the supply, in microjoules: its cycles times a published energy of a cycle.

    Args:
        latency: measured or modelled, in milliseconds, at the board's clock.
        board: whose clock, and whose published run.
    """
    run = board.published_run if isinstance(board, ImageBoard) else None
    if run is None:
        return Figure(None, Origin.MODELLED, f"nobody has published energy and latency of a run on {board.core}")
    if latency.value is None:
        return Figure(None, Origin.MODELLED, f"there is no latency: {latency.basis}")
    return Figure(
        value=latency.value * 1e-3 * board.clock_hz * run.picojoules_per_cycle * 1e-6,
        origin=Origin.MODELLED,
        basis=f"{latency.origin} latency x {board.clock_hz / 1e6:g} MHz x {run.picojoules_per_cycle:.3g} pJ a cycle of "
        f"{run.part}: {run.energy_uj:g} µJ in {run.latency_ms:g} ms ({run.milliwatts:.3g} mW) at "
        f"{run.clock_hz / 1e6:g} MHz for {run.benchmark} ({run.source}); as uncertain as the latency on that part, and "
        "up to threefold on others with this core",
    )
