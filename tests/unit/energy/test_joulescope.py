"""The Joulescope's adapter against a stand-in for its maker's package, which streams as that documents."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared.energy import (
    DisconnectedError,
    EnergyError,
    LostSamplesError,
    MeterOptionError,
    OverloadError,
    PortBusyError,
    WrongInstrumentError,
)
from shared.energy.joulescope import Joulescope, load_driver
from shared.energy.phases import measured_energy

PATH = "u/js220/000415"
WATTS = np.repeat([0.001, 0.02, 0.001], 800).astype(np.float32)
LEVELS = np.repeat([0, 1, 0], 800).astype(np.uint8)


class StandIn:
    """What `pyjoulescope_driver.Driver` does: topics below a device, and blocks of samples to whoever subscribed."""

    def __init__(self, *paths: str) -> None:
        self.paths = list(paths)
        self.topics: dict[str, object] = {}
        self.listeners: dict[str, Callable[[str, Any], None]] = {}
        self.finalized = False

    def device_paths(self) -> list[str]:
        return self.paths

    def open(self, device_prefix: str) -> None:
        self._require(device_prefix)

    def close(self, device_prefix: str) -> None:
        self._require(device_prefix)

    def publish(self, topic: str, value: object) -> None:
        self._require(topic)
        self.topics[topic] = value

    def subscribe(self, topic: str, flags: str, fn: Callable[[str, Any], None]) -> None:
        assert flags == "pub"
        self.listeners[topic] = fn

    def unsubscribe(self, topic: str, fn: Callable[[str, Any], None]) -> None:
        assert self.listeners.pop(topic) == fn

    def finalize(self) -> None:
        self.finalized = True

    def stream(self, signal: str, data: np.ndarray, first: int = 3000, decimate: int = 10) -> None:
        """Bring a block, as a JS220 does that samples at 1 MHz and sends every tenth."""
        if data.dtype == np.uint8:
            data = np.packbits(data, bitorder="little")
        topic = f"{self.paths[0]}/s/{signal}/!data"
        block = {"sample_id": first * decimate, "sample_rate": 1_000_000, "decimate_factor": decimate, "data": data}
        self.listeners[topic](topic, block)

    def _require(self, topic: str) -> None:
        if not any(topic.startswith(path) for path in self.paths):
            raise TimeoutError(f"jsdrv timed out | {topic}")


def opened(driver: StandIn, trigger: int | None = 0, device: str = "*") -> Joulescope:
    return Joulescope(driver, device, trigger=trigger, accuracy=0.01)


def test_power_and_pin_are_joined_by_their_sample_numbers() -> None:
    driver = StandIn(PATH)
    with opened(driver) as meter:
        meter.start()
        driver.stream("gpi/0", LEVELS[:1600], first=3000)
        driver.stream("p", WATTS[8:1000], first=3008)
        driver.stream("p", WATTS[1000:], first=4000)
        driver.stream("gpi/0", LEVELS[1600:], first=4600)
        trace = meter.stop()
    result = measured_energy(trace, 4)
    assert (trace.rate_hz, len(trace.power_w)) == (100_000, 2392)
    assert result.energy_uj == pytest.approx(0.02 * 800 / 100_000 / 4 * 1e6)
    assert driver.finalized
    assert not driver.listeners
    assert driver.topics[f"{PATH}/s/i/range/mode"] == "auto"
    assert driver.topics[f"{PATH}/s/p/ctrl"] == 0


def test_a_js110_streams_current_and_voltage_for_its_power() -> None:
    driver = StandIn("u/js110/002557")
    with opened(driver, trigger=None) as meter:
        meter.start()
        driver.stream("p", WATTS[:800])
        meter.mark()
        driver.stream("p", WATTS[800:], first=3800)
        meter.mark()
        trace = meter.stop()
    assert trace.marks == (800, 2400)
    assert {"u/js110/002557/s/i/ctrl", "u/js110/002557/s/v/ctrl"} <= driver.topics.keys()


def test_a_missing_block_is_no_measurement() -> None:
    driver = StandIn(PATH)
    with opened(driver, trigger=None) as meter:
        meter.start()
        driver.stream("p", WATTS[:100])
        driver.stream("p", WATTS[100:], first=3148)
        with pytest.raises(LostSamplesError, match="48 samples of power are missing"):
            meter.stop()


def test_no_block_is_no_measurement() -> None:
    with opened(StandIn(PATH)) as meter:
        meter.start()
        with pytest.raises(LostSamplesError, match="not one sample of power"):
            meter.stop()


def test_what_it_could_not_measure_is_an_overload() -> None:
    driver = StandIn(PATH)
    with opened(driver, trigger=None) as meter:
        meter.start()
        driver.stream("p", np.array([0.1, np.nan, 0.1], dtype=np.float32))
        with pytest.raises(OverloadError, match="1 samples are out of its range"):
            meter.stop()


def test_an_unplugged_instrument_is_named_and_can_be_closed() -> None:
    driver = StandIn(PATH)
    with opened(driver) as meter:
        meter.start()
        driver.paths.clear()
        with pytest.raises(DisconnectedError, match="timed out"):
            meter.stop()
    assert driver.finalized


@pytest.mark.parametrize(
    ("paths", "device", "trigger", "error", "said"),
    [
        ((), "*", 0, PortBusyError, "connected: none"),
        ((PATH, "u/js110/1"), "*", 0, PortBusyError, "2 Joulescopes"),
        ((PATH,), "7", 0, PortBusyError, f"no Joulescope 7; connected: {PATH}"),
        (("u/mb/1",), "*", 0, WrongInstrumentError, "allowed are JS110 and JS220"),
        (("u/js110/1",), "1", 2, MeterOptionError, "0 to 1"),
    ],
)
def test_a_device_that_cannot_be_had_is_told(
    paths: tuple[str, ...], device: str, trigger: int, error: type[Exception], said: str
) -> None:
    driver = StandIn(*paths)
    with pytest.raises(error, match=said):
        opened(driver, trigger, device)
    assert driver.finalized


def test_the_maker_s_package_is_asked_for_or_finds_what_is_connected() -> None:
    try:
        import pyjoulescope_driver  # noqa: F401
    except ImportError:
        with pytest.raises(EnergyError, match="pip install pyjoulescope_driver"):
            load_driver()
        return
    driver = load_driver()
    try:
        assert isinstance(driver.device_paths(), list)
    finally:
        driver.finalize()
