"""ST's LPM01A (X-NUCLEO-LPM01A, "PowerShield"), over its USB serial port.

Commands are ASCII lines, acknowledged by ``PowerShield > ack COMMAND``. Samples come in binary, two bytes each: four
bits of a negative exponent of 16 and twelve of mantissa, in amperes; or in ASCII, ``6409-07`` for 6409e-7 A. Between
them stand time stamps, messages and the end. The dynamic mode that is used here measures 100 nA to 50 mA.
Source: ST's UM2243 and UM2269, and the command list of MLPerf Tiny's runner. Proven against a simulator only.
"""

import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.energy import (
    EnergyError,
    LostSamplesError,
    MeterOptionError,
    OutOfCalibrationError,
    OverloadError,
    Trace,
    WrongInstrumentError,
)
from shared.energy.port import Port
from shared.energy.port_meter import PortMeter

RATES: Final = ("100k", "50k", "20k", "10k", "5k", "2k", "1k", "500", "200", "100", "50", "20", "10", "5", "2", "1")
FORMATS: Final = ("bin_hexa", "ascii_dec")
ASCII_LIMIT_HZ: Final = 5000
"""Above it, an acquisition in ASCII ends after a second at most."""
VOLTAGE_MV: Final = (1800, 3300)
LIMIT_A: Final = 0.050
CALIBRATED_DEGC: Final = 5.0
"""By how much the temperature may move until ST wants a new calibration."""
_ANSWER_S: Final = 3.0
"""A new voltage is acknowledged after its calibration."""
_GREETING_S: Final = 1.0
_QUIET_S: Final = 0.1
_STAMP_S: Final = 0.002
"""Time stamps are whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time stamp: samples before it, and how full the instrument's buffer was."""

    samples: int
    milliseconds: int
    load_percent: int


@dataclass(slots=True)
class Stream:
    """What came between start and end."""

    amperes: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    stamps: list[Stamp] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    overcurrent: bool = False
    torn: bool = False
    """A byte is missing somewhere: what follows cannot be told from samples."""


def parse_binary(data: bytes) -> Stream:
    """Parse a stream in `bin_hexa`. What comes before the first time stamp is the acknowledgement."""
    stream, pairs = Stream(), bytearray()
    at = data.find(b"\xf0\xf3")
    data = data if at >= 0 else b""
    while 0 <= at < len(data):
        end = _next_tag(data, at)
        pairs += data[at:end]
        if end >= len(data) - 1:
            break
        at = _tag(stream, data, end, len(pairs) // 2)
    words = np.frombuffer(bytes(pairs[: len(pairs) // 2 * 2]), dtype=">u2").astype(np.int64)
    stream.amperes = (words & 0xFFF) * 16.0 ** -(words >> 12)
    return stream


def _next_tag(data: bytes, at: int) -> int:
    """Return where the next tag begins: 0xF0 as the first byte of a pair, an exponent that no sample has."""
    found = data.find(b"\xf0", at)
    while found >= 0 and (found - at) % 2:
        found = data.find(b"\xf0", found + 1)
    return len(data) if found < 0 else found


def _tag(stream: Stream, data: bytes, at: int, samples: int) -> int:
    """Note the tag at `at` and return where samples go on; the stream's end after its last tag."""
    kind = data[at + 1]
    if kind == 0xF3:
        # The only one of fixed length: its numbers may hold 0xFF.
        body = data[at + 2 : at + 9]
        stream.torn |= len(body) == 7 and body[5:] != b"\xff\xff"
        if len(body) == 7:
            stream.stamps.append(Stamp(samples, int.from_bytes(body[:4], "big"), body[4]))
        return at + 9
    end = data.find(b"\xff\xff", at)
    said = data[at + 2 : end].decode("ascii", "replace").strip("\0\r\n ")
    if kind == 0xF1:
        stream.errors.append(said)
    elif kind == 0xF5:
        stream.overcurrent = True
    elif kind not in {0xF2, 0xF4}:
        stream.torn = True
    return len(data) if end < 0 or kind == 0xF4 else end + 2


def parse_ascii(data: bytes) -> Stream:
    """Parse a stream in `ascii_dec`."""
    stream, amperes = Stream(), list[float]()
    for line in data.decode("ascii", "replace").replace("\r", "\n").split("\n"):
        if stamp := re.search(r"TimeStamp: (\d+)s (\d+)ms, buff (\d+)%", line):
            seconds, milliseconds, load = map(int, stamp.groups())
            stream.stamps.append(Stamp(len(amperes), seconds * 1000 + milliseconds, load))
        elif sample := re.fullmatch(r"\0*(\d{4})([+-]\d{2})", line.strip()):
            amperes.append(float(f"{sample[1]}e{sample[2]}"))
        elif re.search("error", line, re.IGNORECASE):
            stream.errors.append(line.strip("\0 "))
        elif stream.stamps and re.search(r"\d{3}[+-]|[+-]\d", line):
            stream.torn = True
    stream.amperes = np.asarray(amperes, dtype=np.float64)
    stream.overcurrent = any("overcurrent" in error.lower() for error in stream.errors)
    return stream


class Lpm01a(PortMeter):
    """An LPM01A under the host's control, which supplies the board."""

    _bytes_stop = b"stop\r\n"
    _bytes_release = b"hrc\r\n"

    def __init__(self, port: Port, *, supply_mv: int, rate: str, encoding: str, accuracy: float) -> None:
        """Check that it is one, and set it up. The port is closed when this fails.

        Raises:
            EnergyError: the options are none, no LPM01A answers, or it refuses a setting.
        """
        self.name = f"LPM01A at {port.path}"
        self._supply_mv, self._accuracy = supply_mv, accuracy
        super().__init__(port)
        try:
            self._rate_hz = _checked_rate(rate, encoding, supply_mv)
            self._parse = parse_binary if encoding == "bin_hexa" else parse_ascii
            self._identify()
            for setting in (
                "acqmode dyn",
                f"volt {supply_mv}m",  # calibrates as well
                f"freq {rate}",
                "acqtime inf",
                "output current",
                f"format {encoding}",
                "trigsrc sw",
                "trigdelay 0",
                "pwrend on",
            ):
                self._ask(setting)
            self._calibrated_degc = self._temperature()
        except BaseException:
            port.close()
            raise

    def start(self) -> None:
        """See `EnergyMeter`."""
        self._port.write(b"start\r\n")
        begun = self._port.read_until(b"ack start", _ANSWER_S)
        if b"ack start" not in begun:
            raise self._refused("start", begun)
        self._begin(begun.partition(b"ack start")[2])

    def stop(self) -> Trace:
        """See `EnergyMeter`."""
        data, marked = self._finish()
        stream = self._parse(data)
        self._check(stream)
        if abs(now := self._temperature() - self._calibrated_degc) > CALIBRATED_DEGC:
            raise OutOfCalibrationError(
                f"{self.name}: its temperature moved by {now:+.1f} degrees since it was calibrated; allowed are"
                f" {CALIBRATED_DEGC:g}. Next: let it warm up, open it again, which calibrates it, and measure again"
            )
        marks = tuple(min(len(self._parse(data[:mark]).amperes), len(stream.amperes)) for mark in marked)
        power = stream.amperes * (self._supply_mv / 1000)
        return Trace(self.name, self._rate_hz, power, None, marks, self._accuracy)

    def _check(self, stream: Stream) -> None:
        peak = float(stream.amperes.max(initial=0.0))
        if stream.overcurrent or peak > LIMIT_A:
            raise OverloadError(
                f"{self.name}: the board took more than it measures ({LIMIT_A * 1000:g} mA; seen {peak * 1000:.1f} mA)."
                " Next: switch off LEDs and radio of the board, or use an instrument with a larger range"
            )
        if stream.errors:
            raise EnergyError(f"{self.name} said: {'; '.join(stream.errors)}. Next: mend that and measure again")
        lost = missing_samples(stream, self._rate_hz)
        if stream.torn or lost or not len(stream.amperes):
            raise LostSamplesError(
                f"{self.name}: {lost or 'some'} samples are missing beside {len(stream.amperes)} that came."
                " Next: use a USB port without a hub, or a lower rate (`rate=10k`), and measure again"
            )

    def _identify(self) -> None:
        self._port.write(self._bytes_stop)  # it may still measure for a program that was killed
        self._port.drain(_QUIET_S)
        self._port.write(b"htc\r\n")
        answer = self._port.read_until(b"ack htc", _GREETING_S)
        if b"ack htc" not in answer:
            said = repr(answer[:80]) if answer else "nothing"
            raise WrongInstrumentError(
                f"{self._port.path}: an LPM01A acknowledges `htc`; here came {said}."
                " Next: check that the port is an LPM01A's, and that nothing was pressed in its menus meanwhile"
            )
        self._port.drain(_QUIET_S)

    def _ask(self, command: str) -> str:
        """Send a command and return what stands behind its acknowledgement."""
        self._port.write(f"{command}\r\n".encode())
        wanted = f"ack {command}".encode()
        answer = self._port.read_until(wanted, _ANSWER_S)
        if wanted not in answer:
            raise self._refused(command, answer)
        rest = answer.partition(wanted)[2]
        rest += b"" if b"\n" in rest else self._port.read_until(b"\n", _ANSWER_S)
        return rest.decode("ascii", "replace").strip()

    def _temperature(self) -> float:
        said = self._ask("temp degc")
        try:
            return float(said.split()[0])
        except (IndexError, ValueError) as error:
            raise EnergyError(f"{self.name}: no temperature in {said!r}. Next: power it off and on") from error

    def _refused(self, command: str, answer: bytes) -> EnergyError:
        said = " ".join(answer.decode("ascii", "replace").split()) or "nothing"
        return EnergyError(f"{self.name}: `{command}` was not acknowledged; it said {said}. Next: power it off and on")


def missing_samples(stream: Stream, rate_hz: float) -> int:
    """Return how many samples the time stamps miss; stamps are exact to a millisecond or two."""
    if any(stamp.load_percent >= 100 for stamp in stream.stamps):
        return 1  # the buffer ran over: how much is gone, nobody knows
    if len(stream.stamps) < 2:
        return 0
    first, last = stream.stamps[0], stream.stamps[-1]
    expected = (last.milliseconds - first.milliseconds) / 1000 * rate_hz
    missing = expected - (last.samples - first.samples)
    return round(missing) if missing > max(_STAMP_S * rate_hz, 1) else 0


def _checked_rate(rate: str, encoding: str, supply_mv: int) -> float:
    if rate not in RATES:
        raise MeterOptionError(f"rate={rate}; allowed are {', '.join(RATES)}. Next: name one of them")
    if encoding not in FORMATS:
        raise MeterOptionError(f"format={encoding}; allowed are {' and '.join(FORMATS)}. Next: name one of them")
    if not VOLTAGE_MV[0] <= supply_mv <= VOLTAGE_MV[1]:
        raise MeterOptionError(
            f"mv={supply_mv}; allowed are {VOLTAGE_MV[0]} to {VOLTAGE_MV[1]}. Next: give the board's supply"
        )
    rate_hz = float(rate.replace("k", "000"))
    if encoding == "ascii_dec" and rate_hz > ASCII_LIMIT_HZ:
        raise MeterOptionError(f"rate={rate} with format=ascii_dec; allowed is up to 5k. Next: use format=bin_hexa")
    return rate_hz
