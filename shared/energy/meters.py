"""Every instrument by name, and how a user names one: ``ppk2:/dev/ttyACM0?mv=3300&trigger=0``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from shared.energy import EnergyMeter, MeterOptionError
from shared.energy.joulescope import Joulescope, load_driver
from shared.energy.lpm01a import Lpm01a
from shared.energy.port import Port
from shared.energy.ppk2 import Ppk2

Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MeterDriver:
    """One kind of instrument.

    Attributes:
        place: What stands behind the colon, for people.
        defaults: Every option it takes, with its default.
    """

    description: str
    place: str
    defaults: Options
    open: Callable[[str, Options], EnergyMeter]


def _ppk2(place: str, options: Options) -> EnergyMeter:
    source = _one_of(options, "mode", ("source", "ampere")) == "source"
    supply_mv, trigger, accuracy = _whole(options, "mv"), _channel(options), _accuracy(options)
    return Ppk2(Port(place), supply_mv=supply_mv, source=source, trigger=trigger, accuracy=accuracy)


def _lpm01a(place: str, options: Options) -> EnergyMeter:
    supply_mv, accuracy = _whole(options, "mv"), _accuracy(options)
    port = Port(place)
    return Lpm01a(port, supply_mv=supply_mv, rate=options["rate"], encoding=options["format"], accuracy=accuracy)


def _joulescope(place: str, options: Options) -> EnergyMeter:
    trigger, accuracy = _channel(options), _accuracy(options)
    return Joulescope(load_driver(), place or "*", trigger=trigger, accuracy=accuracy)


METERS: Final[Mapping[str, MeterDriver]] = {
    "ppk2": MeterDriver(
        "Nordic Power Profiler Kit II",
        "its serial port",
        {"mv": "3300", "mode": "source", "trigger": "0", "accuracy": "15"},
        _ppk2,
    ),
    "lpm01a": MeterDriver(
        "ST X-NUCLEO-LPM01A",
        "its serial port",
        {"mv": "3300", "rate": "100k", "format": "bin_hexa", "accuracy": "2"},
        _lpm01a,
    ),
    "joulescope": MeterDriver(
        "Joulescope JS110 or JS220",
        "its serial number, or nothing for the only one",
        {"trigger": "0", "accuracy": "1"},
        _joulescope,
    ),
}


def open_meter(specification: str) -> EnergyMeter:
    """Open the instrument that a user named, and check that it is what it should be.

    Raises:
        EnergyError: there is no such kind or option, or the instrument does not answer.
    """
    kind, _, rest = specification.partition(":")
    driver = METERS.get(kind)
    if driver is None:
        raise MeterOptionError(
            f"{specification}: found the instrument {kind!r}; allowed are {', '.join(METERS)}."
            " Next: write it as KIND:PLACE, such as ppk2:/dev/ttyACM0"
        )
    place, _, query = rest.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - driver.defaults.keys()):
        allowed = ", ".join(f"{name}={value}" for name, value in driver.defaults.items())
        raise MeterOptionError(
            f"{specification}: no option {', '.join(unknown)}; allowed are, with their defaults, {allowed}."
            " Next: correct the option"
        )
    return driver.open(place, {**driver.defaults, **given})


def _whole(options: Options, name: str) -> int:
    if not re.fullmatch(r"\d{1,6}", options[name]):
        raise MeterOptionError(f"{name}={options[name]}; allowed is a whole number. Next: correct it")
    return int(options[name])


def _channel(options: Options) -> int | None:
    return None if options["trigger"] == "none" else _whole(options, "trigger")


def _one_of(options: Options, name: str, allowed: tuple[str, ...]) -> str:
    if options[name] not in allowed:
        raise MeterOptionError(f"{name}={options[name]}; allowed are {', '.join(allowed)}. Next: name one of them")
    return options[name]


def _accuracy(options: Options) -> float:
    """Return the limit of the relative error; users give per cent."""
    if not re.fullmatch(r"\d{1,2}(\.\d+)?", options["accuracy"]):
        raise MeterOptionError(f"accuracy={options['accuracy']}; allowed are 0 to 99 per cent. Next: correct it")
    return float(options["accuracy"]) / 100
