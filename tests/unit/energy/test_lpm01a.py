"""The LPM01A's driver against a simulator of the instrument on a pseudo terminal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.energy import (
    DisconnectedError,
    EnergyError,
    LostSamplesError,
    MeterOptionError,
    OutOfCalibrationError,
    OverloadError,
    Trace,
    WrongInstrumentError,
)
from shared.energy.lpm01a import parse_ascii, parse_binary
from shared.energy.meters import open_meter
from shared.energy.phases import measured_energy
from tests.energy_instruments import (
    SilentInstrument,
    SimulatedLpm01a,
    binary_sample,
    binary_stamp,
    eventually,
)

AMPERES = [640.9e-6] * 3000


def measured(amperes: list[float], options: str = "", **parts: Any) -> Trace:
    with SimulatedLpm01a(amperes, **parts) as instrument, open_meter(f"lpm01a:{instrument.path}{options}") as meter:
        meter.start()
        assert instrument.sent.wait(60)
        return meter.stop()


@pytest.mark.parametrize(("options", "rate_hz"), [("", 100_000), ("?rate=5k&format=ascii_dec", 5000)])
def test_power_is_current_times_supply(options: str, rate_hz: int) -> None:
    trace = measured(AMPERES, options, rate_hz=rate_hz)
    assert (len(trace.power_w), trace.rate_hz, trace.trigger) == (3000, rate_hz, None)
    assert trace.power_w == pytest.approx(640.9e-6 * 3.3, rel=2e-3)


def test_it_is_set_up_under_the_host_s_control() -> None:
    with SimulatedLpm01a(AMPERES) as instrument, open_meter(f"lpm01a:{instrument.path}?mv=1800&rate=10k"):
        assert instrument.commands[:2] == ["stop", "htc"]
        for expected in ("volt 1800m", "freq 10k", "acqtime inf", "format bin_hexa", "temp degc"):
            assert expected in instrument.commands


def test_marks_cut_the_phases() -> None:
    with SimulatedLpm01a(AMPERES) as instrument, open_meter(f"lpm01a:{instrument.path}") as meter:
        instrument.go.clear()
        meter.start()
        meter.mark()
        instrument.go.set()
        assert instrument.sent.wait(60)
        eventually(lambda: b"completed" in meter._capture._data)  # type: ignore[attr-defined]
        meter.mark()
        trace = meter.stop()
    assert trace.marks == (0, 3000)
    assert measured_energy(trace, 3).energy_uj == pytest.approx(640.9e-6 * 3.3 * 0.01 * 1e6, rel=2e-3)


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ({"lose": slice(500, 1500)}, LostSamplesError, "1000 samples are missing"),
        ({"load": 100}, LostSamplesError, "are missing"),
        ({"extra": b"\xf0\xf5\xff\xff"}, OverloadError, "more than it measures"),
        ({"amperes": [0.06] * 3000}, OverloadError, "seen 60.0 mA"),
        (
            {"extra": b"\xf0\xf1Acquisition stopped: power cut\xff\xff"},
            EnergyError,
            "said: Acquisition stopped: power cut",
        ),
        ({"extra": b"\xf0\xf9??\xff\xff"}, LostSamplesError, "some samples are missing"),
        ({"amperes": []}, LostSamplesError, "samples are missing"),
        ({"degrees": (25.0, 31.5)}, OutOfCalibrationError, r"moved by \+6.5 degrees"),
    ],
)
def test_a_measurement_that_cannot_be_trusted_is_none(parts: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        measured(**{"amperes": AMPERES} | parts)


def test_a_small_change_of_temperature_is_fine() -> None:
    assert len(measured(AMPERES, degrees=(25.0, 29.9)).power_w) == 3000


def test_an_abandoned_measurement_is_stopped_and_control_given_back() -> None:
    with SimulatedLpm01a(AMPERES) as instrument:
        with open_meter(f"lpm01a:{instrument.path}") as meter:
            meter.start()
            assert instrument.sent.wait(60)
        eventually(lambda: instrument.commands[-2:] == ["stop", "hrc"])


def test_an_error_in_ascii_is_told() -> None:
    options = "?rate=5k&format=ascii_dec"
    with pytest.raises(OverloadError):
        measured(AMPERES, options, rate_hz=5000, extra=b"\r\nError: overcurrent detected\r\n")
    with pytest.raises(EnergyError, match="said: error: supply"):
        measured(AMPERES, options, rate_hz=5000, extra=b"\r\nerror: supply\r\n")


def test_a_refused_setting_is_told() -> None:
    with (
        SimulatedLpm01a(AMPERES, refuse="freq") as instrument,
        pytest.raises(EnergyError, match=r"`freq 100k` was not acknowledged; it said .*out of range"),
    ):
        open_meter(f"lpm01a:{instrument.path}")


def test_an_unplugged_instrument_is_named() -> None:
    with SimulatedLpm01a(AMPERES) as instrument, open_meter(f"lpm01a:{instrument.path}") as meter:
        meter.start()
        instrument.unplug()
        with pytest.raises(DisconnectedError, match="went away"):
            meter.stop()


def test_another_instrument_on_the_port_is_told() -> None:
    with SilentInstrument() as instrument, pytest.raises(WrongInstrumentError, match="acknowledges `htc`"):
        open_meter(f"lpm01a:{instrument.path}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("rate=3k", "allowed are 100k, 50k"),
        ("rate=10k&format=ascii_dec", "up to 5k"),
        ("format=hex", "bin_hexa and ascii_dec"),
        ("mv=5000", "1800 to 3300"),
    ],
)
def test_what_it_cannot_do_is_told(options: str, said: str) -> None:
    with SimulatedLpm01a(AMPERES) as instrument, pytest.raises(MeterOptionError, match=said):
        open_meter(f"lpm01a:{instrument.path}?{options}")


@given(
    st.lists(
        st.floats(1e-7, 0.05).map(binary_sample)
        | st.builds(binary_stamp, st.integers(0, 2**32 - 1), st.integers(0, 255))
        | st.just(b"\xf0\xf2info \xf0\xf3\xff\xff"),
        max_size=50,
    )
)
def test_samples_survive_whatever_stands_between_them(parts: list[bytes]) -> None:
    stream = parse_binary(b"\r\n\r\n" + binary_stamp(0, 0) + b"".join(parts) + b"\xf0\xf4\xff\xffsummary")
    samples = [part for part in parts if len(part) == 2]
    expected = [(int.from_bytes(part, "big") & 0xFFF) / 16 ** (part[0] >> 4) for part in samples]
    assert stream.amperes.tolist() == pytest.approx(expected)
    assert len(stream.stamps) == 1 + sum(len(part) == 9 for part in parts)
    assert not stream.torn


@given(st.binary(max_size=200))
def test_garbage_ends_in_an_answer(data: bytes) -> None:
    for parse in (parse_binary, parse_ascii):
        assert len(parse(data).amperes) <= len(data)


def test_the_documented_samples() -> None:
    assert parse_binary(binary_stamp(0, 0) + bytes.fromhex("52A0")).amperes[0] == pytest.approx(640.9e-6, rel=1e-4)
    assert parse_ascii(b"6409-07\r\n").amperes[0] == pytest.approx(640.9e-6)


def test_a_torn_sample_in_ascii_is_noticed() -> None:
    assert parse_ascii(b"TimeStamp: 0s 0ms, buff 1%\r\n6409-07\r\n09-07\r\n").torn
