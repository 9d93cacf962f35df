"""Nordic's Power Profiler Kit II, over its USB serial port.

Commands are an opcode and its arguments, unanswered but for the metadata: lines ``key: value`` with the calibration of
the five ranges, and a last line ``END``. Samples come 100,000 a second as little-endian words: bits 0-13 the
converter's value, 14-16 the range, 18-23 a counter that tells lost samples, 24-31 the digital channels.
Source: the formulae and bits 0-17 and 24-31 are those of IRNAS' ppk2-api; the counter is as we know
Nordic's own program, which was not at hand, to read it: check it first on a real instrument. Proven against a
simulator only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.energy import LostSamplesError, MeterOptionError, OverloadError, Trace, WrongInstrumentError
from shared.energy.port import Port
from shared.energy.port_meter import PortMeter

RATE_HZ: Final = 100_000
RANGES: Final = 5
LIMIT_A: Final = 1.0
CHANNELS: Final = 8
VOLTAGE_MV: Final = (800, 5000)
_ADC_V: Final = 1.8 / 163_840
_COUNTER: Final = 64
_ANSWER_S: Final = 1.0
_QUIET_S: Final = 0.1


class Opcode(IntEnum):
    """The commands that are used here."""

    AVERAGE_START = 0x06
    AVERAGE_STOP = 0x07
    DEVICE_RUNNING = 0x0C
    REGULATOR = 0x0D
    POWER_MODE = 0x11
    METADATA = 0x19


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one instrument; one number per range."""

    resistance: Sequence[float] = (1031.64, 101.65, 10.15, 0.94, 0.043)
    gain_square: Sequence[float] = (1.0,) * RANGES
    gain_linear: Sequence[float] = (1.0,) * RANGES
    offset: Sequence[float] = (0.0,) * RANGES
    supply_slope: Sequence[float] = (0.0,) * RANGES
    supply_offset: Sequence[float] = (0.0,) * RANGES
    user_gain: Sequence[float] = (1.0,) * RANGES


_METADATA: Final[Mapping[str, str]] = {
    "R": "resistance",
    "GS": "gain_square",
    "GI": "gain_linear",
    "O": "offset",
    "S": "supply_slope",
    "I": "supply_offset",
    "UG": "user_gain",
}


def parse_metadata(text: str) -> Calibration:
    """Parse what the instrument says of its calibration. A resistance of 0 is a known fault: the usual one stays.

    Raises:
        WrongInstrumentError: it is no such text.
    """
    usual = Calibration()
    values = {name: list(getattr(usual, name)) for name in _METADATA.values()}
    found = 0
    for key, index, number in re.findall(r"^([A-Z]{1,2})([0-4]): (\S+?)\s*$", text, re.MULTILINE):
        if key not in _METADATA:
            continue
        try:
            value = float(number)
        except ValueError as error:
            raise WrongInstrumentError(
                f"calibration {key}{index} is {number!r}, which is no number. Next: unplug the PPK2, plug it in again"
            ) from error
        if key != "R" or value:
            values[_METADATA[key]][int(index)] = value
        found += 1
    if not found:
        raise WrongInstrumentError(f"no calibration in {text[:80]!r}. Next: check that the port is a PPK2's")
    return Calibration(**values)


def currents(
    words: npt.NDArray[np.uint32], calibration: Calibration, supply_v: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return amperes, unfiltered, and the range of each sample."""
    ranges = np.minimum((words >> 14) & 7, RANGES - 1).astype(np.int64)
    adc = ((words & 0x3FFF) * 4).astype(np.float64)
    of = {name: np.asarray(getattr(calibration, name))[ranges] for name in _METADATA.values()}
    plain = (adc - of["offset"]) * (_ADC_V / of["resistance"])
    supply = of["supply_slope"] * supply_v + of["supply_offset"]
    amperes = of["user_gain"] * (plain * (of["gain_square"] * plain + of["gain_linear"]) + supply)
    return amperes, ranges


def without_spikes(amperes: npt.NDArray[np.float64], ranges: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Replace the first three samples after a change of range by rolling averages, as Nordic's software does.

    While the ranges switch the converter sees a transient; in the highest range its first two samples do not even
    enter the averages.
    """
    filtered = amperes.copy()
    fast = slow = float(amperes[0]) if len(amperes) else 0.0
    before, since, left = (int(ranges[0]) if len(ranges) else 0), 0, 0
    for index, (value, span) in enumerate(zip(amperes.tolist(), ranges.tolist(), strict=True)):
        kept = fast, slow
        fast += 0.18 * (value - fast)
        slow += 0.06 * (value - slow)
        if span != before or left:
            since, left = (0, 3) if span != before else (since + 1, left)
            if span == RANGES - 1:
                if since < 2:
                    fast, slow = kept
                filtered[index] = slow
            else:
                filtered[index] = fast
            left -= 1
        before = span
    return filtered


def lost_samples(words: npt.NDArray[np.uint32]) -> int:
    """Return how many samples are missing, modulo 64 at each gap."""
    counters = ((words >> 18) & (_COUNTER - 1)).astype(np.int64)
    return int(((np.diff(counters) - 1) % _COUNTER).sum())


class Ppk2(PortMeter):
    """A PPK2 that is set up and supplies the board, or measures what another supply gives it."""

    _bytes_stop = bytes([Opcode.AVERAGE_STOP])

    def __init__(self, port: Port, *, supply_mv: int, source: bool, trigger: int | None, accuracy: float) -> None:
        """Check that it is one, and set it up. The port is closed when this fails.

        Args:
            port: where it is.
            supply_mv: what it supplies, or what the board is supplied with.
            source: whether it supplies the board itself.
            trigger: the digital channel of the trigger pin, from 0.
            accuracy: the largest relative error.

        Raises:
            EnergyError: the options are none, or no PPK2 answers.
        """
        self.name = f"PPK2 at {port.path}"
        self._supply_mv, self._trigger, self._accuracy = supply_mv, trigger, accuracy
        super().__init__(port)
        try:
            _check_options(supply_mv, trigger)
            self._calibration = self._identify()
            self._send(Opcode.POWER_MODE, 2 if source else 1)
            self._send(Opcode.REGULATOR, *_regulator(supply_mv))
            self._send(Opcode.DEVICE_RUNNING, 1)
        except BaseException:
            port.close()
            raise

    def start(self) -> None:
        """See `EnergyMeter`."""
        self._begin()
        self._send(Opcode.AVERAGE_START)

    def stop(self) -> Trace:
        """See `EnergyMeter`."""
        data, marks = self._finish()
        words = np.frombuffer(data[: len(data) // 4 * 4], dtype="<u4")
        return self._trace(words, tuple(mark // 4 for mark in marks))

    def _trace(self, words: npt.NDArray[np.uint32], marks: tuple[int, ...]) -> Trace:
        if not len(words):
            raise LostSamplesError(f"{self.name}: not one sample came. Next: unplug it, plug it in and measure again")
        if lost := lost_samples(words):
            raise LostSamplesError(
                f"{self.name}: at least {lost} of {len(words) + lost} samples were lost."
                " Next: use a USB port without a hub, ease the machine's load, and measure again"
            )
        amperes, ranges = currents(words, self._calibration, self._supply_mv / 1000)
        amperes = without_spikes(amperes, ranges)
        if (peak := float(amperes.max())) > LIMIT_A:
            raise OverloadError(
                f"{self.name}: the board took {peak:.2f} A; allowed is {LIMIT_A:g} A."
                " Next: look for a short circuit, or use an instrument with a larger range"
            )
        trigger = None if self._trigger is None else ((words >> (24 + self._trigger)) & 1).astype(np.bool_)
        power = amperes * (self._supply_mv / 1000)
        return Trace(self.name, RATE_HZ, power, trigger, marks, self._accuracy)

    def _identify(self) -> Calibration:
        self._send(Opcode.AVERAGE_STOP)  # it may still measure for a program that was killed
        self._port.drain(_QUIET_S)
        self._send(Opcode.METADATA)
        answer = self._port.read_until(b"END", _ANSWER_S)
        if b"END" not in answer:
            said = repr(answer[:80]) if answer else "nothing"
            raise WrongInstrumentError(
                f"{self._port.path}: a PPK2 tells its calibration when asked; here came {said}."
                " Next: check that the port is a PPK2's first one (it has two), and that it is switched on"
            )
        return parse_metadata(answer.decode("ascii", "replace"))

    def _send(self, *command: int) -> None:
        self._port.write(bytes(command))


def _regulator(millivolts: int) -> tuple[int, int]:
    """Return the two bytes of a voltage: 800 mV is (3, 32), and they count up from there."""
    high, low = divmod(millivolts - VOLTAGE_MV[0] + 32, 256)
    return 3 + high, low


def _check_options(supply_mv: int, trigger: int | None) -> None:
    if not VOLTAGE_MV[0] <= supply_mv <= VOLTAGE_MV[1]:
        raise MeterOptionError(
            f"mv={supply_mv}; allowed are {VOLTAGE_MV[0]} to {VOLTAGE_MV[1]}. Next: give the board's supply"
        )
    if trigger is not None and not 0 <= trigger < CHANNELS:
        raise MeterOptionError(f"trigger={trigger}; allowed are 0 to 7. Next: name the channel D0 to D7")
