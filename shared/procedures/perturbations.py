"""What sensors do to their signals, applied to windows before they are quantised: the same for the same seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Windows: TypeAlias = npt.NDArray[np.float32]
Span: TypeAlias = tuple[float, float]
"""The smallest and the largest value that the model's input can hold."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One way in which a sensor differs from the one that the data was recorded with.

    Attributes:
        unit: What a level is.
        neutral: The level that changes nothing.
        levels: The grid, in order; the neutral level is among them.
        apply: Windows of shape (rows, time, …, channels), a level, the input's span, and a generator.
    """

    unit: str
    neutral: float
    levels: tuple[float, ...]
    apply: Callable[[Windows, float, Span, np.random.Generator], Windows]


def _gain(x: Windows, level: float, _span: Span, _random: np.random.Generator) -> Windows:
    return x * np.float32(level)


def _offset(x: Windows, level: float, span: Span, _random: np.random.Generator) -> Windows:
    return x + np.float32(level * (span[1] - span[0]))


def _noise(x: Windows, level: float, span: Span, random: np.random.Generator) -> Windows:
    return x + np.float32(level * (span[1] - span[0])) * random.standard_normal(x.shape, np.float32)


def _clipping(x: Windows, level: float, span: Span, _random: np.random.Generator) -> Windows:
    middle, half = (span[1] + span[0]) / 2, (span[1] - span[0]) / 2 * level
    return np.clip(x, np.float32(middle - half), np.float32(middle + half))


def _dropped(x: Windows, level: float, _span: Span, random: np.random.Generator) -> Windows:
    """Repeat the sample before; a window's first is always there."""
    rows, steps = x.shape[:2]
    there = random.random((rows, steps)) >= level
    there[:, 0] = True
    last = np.maximum.accumulate(np.where(there, np.arange(steps), 0), axis=1)
    return x[np.arange(rows)[:, None], last]


def _rate(x: Windows, level: float, _span: Span, _random: np.random.Generator) -> Windows:
    """Sample `level` too fast, by linear interpolation; a window that was too short holds its last value."""
    steps = x.shape[1]
    at = np.minimum(np.arange(steps) / (1 + level), steps - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, steps - 1)
    share = (at - low).astype(np.float32).reshape(1, steps, *(1 for _ in x.shape[2:]))
    between: Windows = x[:, low] * (1 - share) + x[:, high] * share
    return between


PERTURBATIONS: Final[Mapping[str, Perturbation]] = {
    "gain": Perturbation("factor", 1.0, (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0), _gain),
    "offset": Perturbation("share of the input's range", 0.0, (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2), _offset),
    "noise": Perturbation("standard deviation, share of the range", 0.0, (0.0, 0.01, 0.02, 0.05, 0.1, 0.2), _noise),
    "clipping": Perturbation("share of the range that is left", 1.0, (0.1, 0.2, 0.4, 0.6, 0.8, 1.0), _clipping),
    "dropped": Perturbation("share of the samples", 0.0, (0.0, 0.01, 0.05, 0.1, 0.2, 0.4), _dropped),
    "rate": Perturbation("error of the sampling rate", 0.0, (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2), _rate),
}


def perturbed(x: Windows, name: str, level: float, *, channels: tuple[int, ...], span: Span, seed: int) -> Windows:
    """Return the windows with some of their channels disturbed.

    Args:
        x: shape (rows, time, …, channels).
        name: of `PERTURBATIONS`.
        level: in that perturbation's unit.
        channels: which of the last axis.
        span: what the model's input can hold.
        seed: levels of one seed share their randomness, so that a curve bends for its level alone.
    """
    perturbation = PERTURBATIONS[name]
    if level == perturbation.neutral:
        return x
    chosen = list(channels)
    result = x.copy()
    random = np.random.default_rng([seed, list(PERTURBATIONS).index(name)])
    result[..., chosen] = perturbation.apply(x[..., chosen], level, span, random)
    return result
