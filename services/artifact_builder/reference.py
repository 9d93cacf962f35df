"""What the release is compared with later: the inputs of its reference dataset, and one input with its exact output."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.artifact_builder.programs import Room
from services.artifact_builder.running import outputs_of
from services.artifact_builder.sandbox.engines import Engine
from shared.events.lab import Numerics
from shared.releases.datasets import read_dataset
from shared.releases.histograms import channel_histograms, quantise
from shared.releases.release import Quantisation, Reference


@dataclass(frozen=True, slots=True)
class ExpectedInputs:
    """All that the expectations depend on, beside code and packages."""

    int8: bytes
    numerics: Numerics
    quantisation: Quantisation
    """Of the model's input."""
    sensed: tuple[bytes, ...]
    """Datasets, .npz, of what the fleet senses."""
    test: bytes
    classes: int
    engine: Engine
    """What the runtime ran in."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What boards are compared with."""

    reference: Reference
    golden_input: bytes
    golden_output: bytes


async def expected_of(inputs: ExpectedInputs, room: Room) -> Expected:
    """Run the model on what the fleet senses, and on the first test window.

    Raises:
        AuthorError: the reference runtime cannot run the model, or ends over it.
    """
    sensed = np.concatenate([read_dataset(part).x for part in inputs.sensed])
    first = read_dataset(inputs.test).x[:1]
    windows = quantise(np.concatenate([first, sensed]), inputs.quantisation)
    outputs = await outputs_of(inputs.numerics, inputs.int8, windows, room)
    return Expected(
        reference=reference_of(windows[1:], outputs[1:], inputs.classes),
        golden_input=windows[:1].tobytes(),
        golden_output=outputs[:1].tobytes(),
    )


def reference_of(windows: npt.NDArray[np.int8], outputs: npt.NDArray[np.int8], classes: int) -> Reference:
    """Return the histograms of quantised inputs, and how often the model gives each class."""
    return Reference(
        counts=tuple(tuple(int(count) for count in channel) for channel in channel_histograms(windows)),
        class_counts=tuple(int(count) for count in np.bincount(outputs.argmax(axis=1), minlength=classes)),
        rows=len(windows),
    )
