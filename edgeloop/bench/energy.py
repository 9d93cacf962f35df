"""Energy of an inference, measured by an instrument while a board at a port runs a window of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from edgeloop.errors import InfrastructureError, UsageError
from shared.boards.modelling import Figure
from shared.energy import EnergyError, EnergyMeter, MeterOptionError
from shared.energy.meters import open_meter
from shared.energy.phases import EnergyResult, measured_energy
from shared.events.lab import Origin
from shared.mlperf_tiny.session import Session

_SETTLE_S: Final = 0.5
_IDLE_S: Final = 1.0
"""Before and after the window: what the board takes while it waits."""


@contextmanager
def supplying(specification: str) -> Iterator[EnergyMeter]:
    """Open an instrument; some supply the board from their first measurement on, so that one is made and forgotten.

    Raises:
        UsageError: the specification is none.
        InfrastructureError: the instrument, or what it measured, is at fault.
    """
    try:
        with open_meter(specification) as meter:
            meter.start()
            time.sleep(_SETTLE_S)
            meter.stop()
            yield meter
    except MeterOptionError as error:
        raise UsageError(f"--energy {error}") from error
    except EnergyError as error:
        raise InfrastructureError(f"--energy {error}") from error


def measure(meter: EnergyMeter, session: Session, *, inferences: int, window_s: float) -> EnergyResult:
    """Run the loaded input so often while the instrument measures, with pauses around.

    A trigger pin tells the window exactly. Host's marks include the command and its answer: what these take is the
    less, the longer the window.

    Raises:
        EnergyError: as `EnergyMeter.stop` and `measured_energy` say.
        shared.mlperf_tiny.DutError: the board is at fault.
    """
    meter.start()
    time.sleep(_IDLE_S)
    meter.mark()
    session.infer(inferences, computes_s=3 * window_s)
    meter.mark()
    time.sleep(_IDLE_S)
    return measured_energy(meter.stop(), inferences)


def figure_of(result: EnergyResult) -> Figure:
    """Return the energy with the instrument as its basis."""
    net = "" if result.net_uj is None else f"; {result.net_uj:.4g} µJ above waiting"
    return Figure(
        result.energy_uj,
        Origin.MEASURED,
        f"{result.instrument}: {result.inferences} inferences in {result.windows} windows, "
        f"{result.inference.seconds:.4g} s each, ± {result.inference.uncertainty_uj:.2g} µJ (one standard uncertainty)"
        f"{net}",
    )


def phases_of(result: EnergyResult) -> dict[str, dict[str, float]]:
    """Return the phases by name: seconds, energy and its uncertainty; `inference` is of one."""
    phases = {"pre": result.pre, "inference": result.inference, "post": result.post}
    return {
        name: {key: float(f"{value:.6g}") for key, value in asdict(phase).items()} for name, phase in phases.items()
    }
