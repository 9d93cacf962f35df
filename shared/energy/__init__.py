"""Energy, measured: what every instrument offers, what it gives back, and how it fails.

A measurement is a trace of power over time, cut into phases by a trigger pin that the firmware drives, or by marks of
the host. What is modelled from instruction counts is another thing, and lives elsewhere: the two are never mixed.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt


class EnergyError(RuntimeError):
    """A measurement that cannot be trusted, or was not made. The message ends with what to do next."""


class MeterOptionError(EnergyError):
    """The instrument's specification names something that does not exist."""


class PortBusyError(EnergyError):
    """The instrument is in use, missing, or not ours to open."""


class WrongInstrumentError(EnergyError):
    """Something answers on the port, and it is no such instrument, or nothing does."""


class DisconnectedError(EnergyError):
    """The instrument went away while it measured."""


class LostSamplesError(EnergyError):
    """Samples are missing, so that the energy would come out too low."""


class OverloadError(EnergyError):
    """The board took more current than the instrument measures."""


class OutOfCalibrationError(EnergyError):
    """The instrument's temperature moved too far since it was calibrated."""


class PhaseError(EnergyError):
    """The trace does not show where the inference began and ended."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Power over time, from the start of the measurement to its end, with no sample missing.

    Attributes:
        instrument: For people: name, serial number or port.
        power_w: One sample after the other, in watts.
        trigger: Whether the trigger pin was high, for each sample; None without a pin.
        marks: Samples before each mark that the host set.
        accuracy: Largest relative error that the instrument may make, as its maker states it, or its user knows better.
        mark_error_s: How late a mark may be. The trigger pin is exact to one sample.
    """

    instrument: str
    rate_hz: float
    power_w: npt.NDArray[np.float64]
    trigger: npt.NDArray[np.bool_] | None
    marks: tuple[int, ...]
    accuracy: float
    mark_error_s: float = 0.005

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return len(self.power_w) / self.rate_hz


class EnergyMeter(Protocol):
    """An instrument that is ready to measure. Opening it, by `open_meter`, checked that it is the right one."""

    @property
    def name(self) -> str:
        """What it is, and where."""

    def start(self) -> None:
        """Begin to measure. The board is supplied from here on, and stays so after `stop`."""

    def mark(self) -> None:
        """Note that something began or ended now, for boards without a trigger pin."""

    def stop(self) -> Trace:
        """End the measurement and return it.

        Raises:
            EnergyError: samples were lost, the range was exceeded, or the instrument went away.
        """

    def close(self) -> None:
        """Release the instrument. May be called twice."""

    def __enter__(self) -> Self:
        """Return the meter itself."""

    def __exit__(self, *_: object) -> None:
        """Close it."""
