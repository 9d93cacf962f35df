"""The PPK2's driver against a simulator of the instrument on a pseudo terminal."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.energy import (
    DisconnectedError,
    EnergyError,
    LostSamplesError,
    MeterOptionError,
    OverloadError,
    PhaseError,
    PortBusyError,
    WrongInstrumentError,
)
from shared.energy.meters import open_meter
from shared.energy.phases import measured_energy
from shared.energy.port import Port
from shared.energy.ppk2 import lost_samples, parse_metadata, without_spikes
from tests.energy_instruments import SilentInstrument, SimulatedInstrument, SimulatedLpm01a, SimulatedPpk2, eventually

IDLE_A, ACTIVE_A = 1e-3, 4e-3
LEVELS = np.repeat([False, True, False, True, False], 2000)
AMPERES = np.where(LEVELS, ACTIVE_A, IDLE_A)


def measured(instrument: SimulatedPpk2, options: str = "") -> object:
    with instrument, open_meter(f"ppk2:{instrument.path}{options}") as meter:
        meter.start()
        assert instrument.sent.wait(60)
        return measured_energy(meter.stop(), 40)


def test_energy_is_what_the_board_took() -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument, open_meter(f"ppk2:{instrument.path}") as meter:
        meter.start()
        assert instrument.sent.wait(60)
        trace = meter.stop()
    result = measured_energy(trace, 40)
    assert (result.source, result.windows, result.inferences, trace.seconds) == ("measured", 2, 40, 0.1)
    assert result.inference.seconds == pytest.approx(1e-3)
    assert result.energy_uj == pytest.approx(ACTIVE_A * 3.3 * 1e-3 * 1e6, rel=2e-3)
    assert result.net_uj == pytest.approx((ACTIVE_A - IDLE_A) * 3.3 * 1e-3 * 1e6, rel=2e-3)
    assert result.pre.energy_uj == pytest.approx(IDLE_A * 3.3 * 20e-3 * 1e6, rel=2e-3)
    assert result.inference.uncertainty_uj == pytest.approx(result.energy_uj * 0.15 / 3**0.5, rel=1e-2)
    assert instrument.commands[1:] == [b"\x19", b"\x11\x02", b"\x0d\x0c\xe4", b"\x0c\x01", b"\x06", b"\x07"]


def test_another_supply_and_another_channel() -> None:
    instrument = SimulatedPpk2(AMPERES, LEVELS, channel=6)
    with instrument, open_meter(f"ppk2:{instrument.path}?mode=ampere&trigger=6&accuracy=1.5&mv=3300") as meter:
        meter.start()
        assert instrument.sent.wait(60)
        assert measured_energy(meter.stop(), 2).windows == 2
    assert b"\x11\x01" in instrument.commands


def test_marks_of_the_host_stand_in_for_a_pin() -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument, open_meter(f"ppk2:{instrument.path}?trigger=none") as meter:
        instrument.go.clear()
        meter.start()
        meter.mark()
        instrument.go.set()
        assert instrument.sent.wait(60)
        eventually(lambda: len(meter._capture) == 4 * len(AMPERES))  # type: ignore[attr-defined]
        meter.mark()
        trace = meter.stop()
    assert trace.trigger is None
    assert trace.marks == (0, len(AMPERES))
    assert measured_energy(trace, 1).windows == 1


def test_a_meter_measures_more_than_once() -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument, open_meter(f"ppk2:{instrument.path}") as meter:
        for _ in range(2):
            instrument.sent.clear()
            meter.start()
            assert instrument.sent.wait(60)
            assert len(meter.stop().power_w) == len(AMPERES)


@pytest.mark.parametrize("missing", [slice(700, 701), slice(100, 140)])
def test_lost_samples_are_no_measurement(missing: slice) -> None:
    with pytest.raises(LostSamplesError, match=f"at least {missing.stop - missing.start} of 10000 .*Next: use a USB"):
        measured(SimulatedPpk2(AMPERES, LEVELS, lose=missing))


def test_a_short_circuit_is_an_overload() -> None:
    with pytest.raises(OverloadError, match=r"took 1\.\d\d A; allowed is 1 A"):
        measured(SimulatedPpk2(np.where(LEVELS, 1.4, IDLE_A), LEVELS))


def test_an_unplugged_instrument_is_named() -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument, open_meter(f"ppk2:{instrument.path}") as meter:
        meter.start()
        instrument.unplug()
        with pytest.raises(DisconnectedError, match="went away"):
            meter.stop()


def test_a_pin_that_nothing_drives_is_told() -> None:
    with pytest.raises(PhaseError, match="never high"):
        measured(SimulatedPpk2(AMPERES, np.zeros_like(LEVELS)))


@pytest.mark.parametrize(
    ("other", "said"),
    [(SilentInstrument, "here came nothing"), (lambda: SimulatedLpm01a([]), "a PPK2 tells its calibration")],
)
def test_another_instrument_on_the_port_is_told(other: Callable[[], SimulatedInstrument], said: str) -> None:
    with other() as instrument, pytest.raises(WrongInstrumentError, match=said):
        open_meter(f"ppk2:{instrument.path}")


def test_a_port_in_use_is_told() -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument:
        port = Port(instrument.path)
        with pytest.raises(PortBusyError, match="another program has it"):
            open_meter(f"ppk2:{instrument.path}")
        port.close()
        open_meter(f"ppk2:{instrument.path}").close()


def test_what_is_no_port_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in ((tmp_path / "file", "no serial port"), (tmp_path / "missing", "No such file")):
        with pytest.raises(PortBusyError, match=said):
            open_meter(f"ppk2:{path}")


@pytest.mark.parametrize(
    ("specification", "said"),
    [
        ("ppk3:/dev/x", "allowed are ppk2, lpm01a, joulescope"),
        ("ppk2:/dev/x?volts=3", "no option volts; allowed are, with their defaults, mv=3300"),
        ("ppk2:/dev/x?mv=3.3", "mv=3.3; allowed is a whole number"),
        ("ppk2:/dev/x?mode=both", "allowed are source, ampere"),
        ("ppk2:/dev/x?accuracy=lots", "per cent"),
    ],
)
def test_a_wrong_specification_is_told(specification: str, said: str) -> None:
    with pytest.raises(MeterOptionError) as refused:
        open_meter(specification)
    assert said in str(refused.value)
    assert "Next: " in str(refused.value)


@pytest.mark.parametrize(("options", "said"), [("mv=700", "800 to 5000"), ("trigger=8", "0 to 7")])
def test_what_the_instrument_cannot_do_is_told(options: str, said: str) -> None:
    with SimulatedPpk2(AMPERES, LEVELS) as instrument:
        with pytest.raises(MeterOptionError, match=said):
            open_meter(f"ppk2:{instrument.path}?{options}")
        open_meter(f"ppk2:{instrument.path}").close()  # the port was released


def test_a_resistance_of_zero_leaves_the_usual_one() -> None:
    assert parse_metadata("R0: 0.000\nR1: 99.5\nEND").resistance[:2] == [1031.64, 99.5]


@pytest.mark.parametrize("text", ["END", "R0: ohm\nEND"])
def test_metadata_without_calibration_is_refused(text: str) -> None:
    with pytest.raises(WrongInstrumentError):
        parse_metadata(text)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=1, max_size=60))
def test_the_spike_filter_invents_nothing(samples: list[tuple[float, int]]) -> None:
    amperes, ranges = (np.array(column) for column in zip(*samples, strict=True))
    filtered = without_spikes(amperes, ranges)
    assert filtered.min() >= amperes.min() - 1e-12
    assert filtered.max() <= amperes.max() + 1e-12
    settled = [i for i in range(len(ranges)) if len(set(ranges[max(i - 3, 0) : i + 1])) == 1]
    assert filtered[settled].tolist() == amperes[settled].tolist()


def test_the_spike_of_a_change_of_range_is_damped() -> None:
    amperes = np.array([1e-3] * 50 + [0.9] + [4e-3] * 50)
    ranges = np.array([2] * 50 + [3] * 51)
    assert without_spikes(amperes, ranges).max() < 0.2


@given(st.integers(2, 300), st.integers(0, 63), st.data())
def test_the_counter_tells_what_is_lost(total: int, first: int, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=total, max_size=total))
    kept[0] = kept[-1] = True
    gaps = "".join("x" if keep else "." for keep in kept).split("x")
    words = (((np.arange(total) + first) % 64) << 18)[kept].astype(np.uint32)
    assert lost_samples(words) == sum(len(gap) % 64 for gap in gaps)


def test_every_error_is_an_energy_error() -> None:
    for kind in (DisconnectedError, LostSamplesError, MeterOptionError, OverloadError, PhaseError, PortBusyError):
        assert issubclass(kind, EnergyError)
