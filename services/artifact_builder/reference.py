"""What the release is compared with later: the inputs of its reference dataset, and one input with its exact output."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.events.lab import Numerics
from shared.inference.reference import reference_outputs
from shared.releases.datasets import Dataset, read_dataset
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


@dataclass(frozen=True, slots=True)
class Expected:
    """What boards are compared with."""

    reference: Reference
    golden_input: bytes
    golden_output: bytes


def expected_of(inputs: ExpectedInputs) -> Expected:
    """Run the model on what the fleet senses, and on the first test window.

    Raises:
        shared.inference.InferenceError: the reference runtime cannot run the model.
    """
    sensed = [read_dataset(part) for part in inputs.sensed]
    window = quantise(read_dataset(inputs.test).x[:1], inputs.quantisation)
    return Expected(
        reference=reference_of(inputs, sensed),
        golden_input=window.tobytes(),
        golden_output=reference_outputs(inputs.numerics, inputs.int8, window).tobytes(),
    )


def reference_of(inputs: ExpectedInputs, datasets: Sequence[Dataset]) -> Reference:
    """Return the histograms of the datasets' quantised inputs, and how often the model gives each class."""
    windows = quantise(np.concatenate([dataset.x for dataset in datasets]), inputs.quantisation)
    answers = reference_outputs(inputs.numerics, inputs.int8, windows).argmax(axis=1)
    return Reference(
        counts=tuple(tuple(int(count) for count in channel) for channel in channel_histograms(windows)),
        class_counts=tuple(int(count) for count in np.bincount(answers, minlength=inputs.classes)),
        rows=len(windows),
    )
