"""What is tested, on which board, by which procedure: what a user wishes, and what came of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.lab.building import Built
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import Board
from shared.events.lab import Numerics
from shared.procedures import ProcedureError, SensorWindows, Workload
from shared.procedures.playback import windows_of
from shared.releases.release import Quantisation

PLAYBACK: Final = "playback"
NEED_LABELS: Final = frozenset({"acceptance", "variability"})
"""Procedures that judge answers by their classes."""
_SENSOR: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_WHOLE_INPUT: Final = "input"

Labels: TypeAlias = npt.NDArray[np.int64] | None
Sensors: TypeAlias = Mapping[str, tuple[str, ...]]
"""The channels of each sensor, by their names or numbers; none: one sensor has them all."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asked for; None where nothing was said.

    Attributes:
        data: The stack's directory.
        rows: How many inputs at most.
        hop: Of sensor playback: the inputs are one trace, and its windows lie so many bytes apart.
    """

    board: Board
    procedure: str
    toolchain: Toolchain
    data: Path
    numerics: Numerics | None = None
    inputs: Path | None = None
    labels: Path | None = None
    accuracy: float | None = None
    rows: int | None = None
    hop: int | None = None
    sensors: Sensors = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """A firmware on its board, and what is known of its model.

    Attributes:
        project: A slug.
        digest: Of the release; of the model where there is none.
        windows: For sensor variability; None where there are no inputs that a sensor gave.
    """

    project: str
    digest: str
    built: Built
    workload: Workload
    windows: SensorWindows | None


def chosen(rows: int, wish: Wish) -> npt.NDArray[np.int64]:
    """Return which rows are run: all, or some spread evenly, since data sets may be sorted. A trace is not torn."""
    if wish.rows is None or wish.rows >= rows:
        return np.arange(rows)
    if wish.procedure == PLAYBACK:
        return np.arange(wish.rows)
    return np.linspace(0, rows - 1, wish.rows).round().astype(np.int64)


def played(inputs: npt.NDArray[np.int8], labels: Labels, wish: Wish) -> tuple[npt.NDArray[np.int8], Labels]:
    """Return inputs and their classes, or, where a hop is wished, the windows of one trace, of which nobody knows any.

    Raises:
        UsageError: the hop is none, or the test is no playback.
    """
    if wish.hop is None:
        return inputs, labels
    if wish.procedure != PLAYBACK:
        raise UsageError(f"--hop: a {wish.procedure} test plays no trace", next_step="give it --procedure playback")
    try:
        return windows_of(inputs.reshape(-1), inputs.shape[1], wish.hop), None
    except ProcedureError as error:
        raise UsageError(f"--hop {wish.hop}: {error}") from error


def sensors_of(options: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read ``NAME=CHANNEL,…`` options.

    Raises:
        UsageError: one is no such thing, or a name comes twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, _, channels = option.partition("=")
        listed = tuple(channel.strip() for channel in channels.split(","))
        if not _SENSOR.fullmatch(name) or not all(listed) or name in found:
            raise UsageError(
                f"--sensor {option!r}; allowed is NAME=CHANNEL,… with a name of small letters, digits, _ and -, once",
                next_step="write it like --sensor accelerometer=0,1,2",
            )
        found[name] = listed
    return found


def sensor_windows(
    x: npt.NDArray[np.float32], quantisation: Quantisation, sensors: Sensors, names: Sequence[str]
) -> SensorWindows:
    """Return windows with their sensors' channels.

    Args:
        x: shape (rows, *input shape); what has no axis of channels gets one.
        quantisation: of the model's input.
        sensors: what the user says of them.
        names: of the channels, if they have any.

    Raises:
        UsageError: a sensor has a channel that there is not.
    """
    if x.ndim == 2:
        x = x[:, :, np.newaxis]
    channels = x.shape[-1]
    numbers = {name: number for number, name in enumerate(names)} | {str(n): n for n in range(channels)}
    for sensor, listed in sensors.items():
        if unknown := [channel for channel in listed if channel not in numbers]:
            raise UsageError(
                f"--sensor {sensor}: no channel {unknown[0]}; the input's last axis has {', '.join(numbers)}"
            )
    by_sensor = {sensor: tuple(numbers[channel] for channel in listed) for sensor, listed in sensors.items()}
    return SensorWindows(x, quantisation, by_sensor or {_WHOLE_INPUT: tuple(range(channels))})
