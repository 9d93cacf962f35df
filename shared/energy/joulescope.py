"""Joulescope JS110 and JS220, through the package ``pyjoulescope_driver`` of their maker.

Power and one general-purpose input are streamed and joined by their sample numbers, which tell what is missing; samples
that are no number are those the instrument could not measure. Source: pyjoulescope_driver's documentation and entry
points. Proven against a stand-in for the package only.
"""

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from shared.energy import (
    DisconnectedError,
    EnergyError,
    LostSamplesError,
    MeterOptionError,
    OverloadError,
    PortBusyError,
    Trace,
    WrongInstrumentError,
)

RATE_HZ: Final = 100_000
_RANGE_TOPICS: Final = {"js110": "s/i/range/select", "js220": "s/i/range/mode"}
_INPUTS: Final = {"js110": 2, "js220": 4}
Listener = Callable[[str, Any], None]


class Driver(Protocol):
    """The part of `pyjoulescope_driver.Driver` that is used."""

    def device_paths(self) -> list[str]:
        """Return what is connected, such as ``u/js220/000415``."""

    def open(self, device_prefix: str) -> None:
        """Open a device with its defaults."""

    def close(self, device_prefix: str) -> None:
        """Close it."""

    def publish(self, topic: str, value: object) -> None:
        """Set a topic."""

    def subscribe(self, topic: str, flags: str, fn: Listener) -> None:
        """Hear of a topic's values, on the driver's own thread."""

    def unsubscribe(self, topic: str, fn: Listener) -> None:
        """No longer."""

    def finalize(self) -> None:
        """End the driver."""


class Signal:
    """One streamed signal, in blocks that the driver's thread brings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[tuple[int, npt.NDArray[Any]]] = []
        self._samples = 0
        self.rate_hz = 0.0

    def __len__(self) -> int:
        """Return the samples so far."""
        return self._samples

    def hear(self, _topic: str, value: Mapping[str, Any]) -> None:
        """Take a block; inputs come packed, eight samples to a byte."""
        data = np.asarray(value["data"])
        if data.dtype == np.uint8:
            data = np.unpackbits(data, bitorder="little")
        decimate = int(value["decimate_factor"])
        with self._lock:
            self.rate_hz = value["sample_rate"] / decimate
            self._blocks.append((int(value["sample_id"]) // decimate, data.copy()))
            self._samples += len(data)

    def joined(self, what: str) -> tuple[int, npt.NDArray[Any]]:
        """Return the first sample's number, and all samples.

        Raises:
            LostSamplesError: a block is missing, or all are.
        """
        with self._lock:
            blocks = list(self._blocks)
        if not blocks:
            raise LostSamplesError(f"not one sample of {what} came. Next: unplug the Joulescope, plug it in, try again")
        expected = blocks[0][0]
        for number, data in blocks:
            if number != expected:
                raise LostSamplesError(
                    f"{abs(number - expected)} samples of {what} are missing."
                    " Next: use a USB port without a hub, ease the machine's load, and measure again"
                )
            expected += len(data)
        return blocks[0][0], np.concatenate([data for _, data in blocks])


class Joulescope:
    """A Joulescope in the supply of a board that something else supplies."""

    def __init__(self, driver: Driver, device: str, *, trigger: int | None, accuracy: float) -> None:
        """Open the device, by its whole path, its serial number, or `*` for the only one. A failure ends the driver."""
        self._driver, self._trigger, self._accuracy = driver, trigger, accuracy
        self._closed = False
        self._power: Signal | None = None
        self._input: Signal | None = None
        self._marks: list[int] = []
        try:
            self._path = _chosen(driver.device_paths(), device)
            self.name = f"Joulescope {self._path}"
            self._model = _model_of(self._path, trigger)
            self._call(driver.open, self._path)
            self._set(_RANGE_TOPICS[self._model], "auto")
            self._set("h/fs", RATE_HZ)
        except BaseException:
            self._closed = True
            driver.finalize()
            raise

    def start(self) -> None:
        """See `EnergyMeter`."""
        self._marks = []
        self._power = Signal()
        self._call(self._driver.subscribe, f"{self._path}/s/p/!data", "pub", self._power.hear)
        if self._trigger is not None:
            self._input = Signal()
            self._call(self._driver.subscribe, f"{self._path}/s/gpi/{self._trigger}/!data", "pub", self._input.hear)
        for topic in self._streams():
            self._set(topic, 1)

    def mark(self) -> None:
        """See `EnergyMeter`."""
        if self._power is None:
            raise MeterOptionError("a mark before the measurement began. Next: call `start` first")
        self._marks.append(len(self._power))

    def stop(self) -> Trace:
        """See `EnergyMeter`."""
        if self._power is None:
            raise MeterOptionError("no measurement runs. Next: call `start` first")
        for topic in self._streams():
            self._set(topic, 0)
        power, level = self._power, self._input
        self._unsubscribe()
        first, watts = power.joined("power")
        if missing := int(np.isnan(watts).sum()):
            raise OverloadError(
                f"{self.name}: {missing} samples are out of its range. Next: check polarity and load of the board"
            )
        trigger, marks = None, tuple(self._marks)
        if level is not None:
            begin, pin = level.joined(f"input {self._trigger}")
            if level.rate_hz != power.rate_hz:
                raise LostSamplesError(
                    f"{self.name}: {power.rate_hz:g} Hz of power, {level.rate_hz:g} Hz of its input."
                    " Next: update the Joulescope's firmware, or measure with marks (`trigger=none`)"
                )
            # Packed inputs come in whole bytes: what both signals cover is used.
            last = min(first + len(watts), begin + len(pin))
            start = max(first, begin)
            trigger = pin[start - begin : last - begin].astype(np.bool_)
            watts = watts[start - first : last - first]
            marks = tuple(max(mark - (start - first), 0) for mark in marks)
        return Trace(self.name, power.rate_hz, watts.astype(np.float64), trigger, marks, self._accuracy)

    def close(self) -> None:
        """Close the device and the driver. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._unsubscribe()
            self._call(self._driver.close, self._path)
        except DisconnectedError:
            pass  # it is gone already: that is what closing wants
        finally:
            self._driver.finalize()

    def __enter__(self) -> Self:
        """Return the meter itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _streams(self) -> tuple[str, ...]:
        # A JS110 computes power on the host, from current and voltage.
        power = ("s/i/ctrl", "s/v/ctrl", "s/p/ctrl") if self._model == "js110" else ("s/p/ctrl",)
        return power if self._trigger is None else (*power, f"s/gpi/{self._trigger}/ctrl")

    def _unsubscribe(self) -> None:
        power, level, self._power, self._input = self._power, self._input, None, None
        if power is not None:
            self._call(self._driver.unsubscribe, f"{self._path}/s/p/!data", power.hear)
        if level is not None:
            self._call(self._driver.unsubscribe, f"{self._path}/s/gpi/{self._trigger}/!data", level.hear)

    def _set(self, topic: str, value: object) -> None:
        self._call(self._driver.publish, f"{self._path}/{topic}", value)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except (RuntimeError, TimeoutError) as error:  # the two that the package raises
            raise DisconnectedError(
                f"{self.name}: {error}. Next: check cable and hub, close the Joulescope UI, then measure again"
            ) from error


def load_driver() -> Driver:
    """Start the maker's driver.

    Raises:
        EnergyError: the package is not installed.
    """
    try:
        package = importlib.import_module("pyjoulescope_driver")
    except ImportError as error:
        raise EnergyError(
            "Joulescopes need a package of their maker. Next: install it with `pip install pyjoulescope_driver`"
        ) from error
    driver: Driver = package.Driver()
    return driver


def _chosen(paths: list[str], device: str) -> str:
    found = [path for path in paths if device in {"*", path, path.rpartition("/")[2]}]
    if len(found) == 1:
        return found[0]
    connected = ", ".join(paths) or "none"
    if not found:
        raise PortBusyError(f"no Joulescope {device}; connected: {connected}. Next: plug it in, or name another")
    raise PortBusyError(f"{len(found)} Joulescopes: {connected}. Next: name one, such as joulescope:{found[0]}")


def _model_of(path: str, trigger: int | None) -> str:
    model = next((model for model in _INPUTS if f"/{model}/" in path), "")
    if not model:
        raise WrongInstrumentError(f"{path}: allowed are JS110 and JS220. Next: name another device")
    if trigger is not None and not 0 <= trigger < _INPUTS[model]:
        raise MeterOptionError(f"trigger={trigger}; allowed are 0 to {_INPUTS[model] - 1}. Next: name the input in use")
    return model
