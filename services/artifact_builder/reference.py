"""What the release is compared with later: the inputs of its reference dataset, and one input with its exact output."""

from collections.abc import Sequence

import numpy as np

from shared.events.device import GoldenVector
from shared.inference.tflm import tflm_outputs
from shared.releases.datasets import Dataset
from shared.releases.histograms import channel_histograms, quantise
from shared.releases.manifest import Manifest
from shared.releases.release import Quantisation, Reference


def reference_of(int8: bytes, q: Quantisation, datasets: Sequence[Dataset], manifest: Manifest) -> Reference:
    """Return the histograms of the datasets' quantised inputs, and how often the model gives each class.

    Raises:
        shared.inference.InferenceError: TFLM cannot run the model.
    """
    windows = quantise(np.concatenate([dataset.x for dataset in datasets]), q)
    answers = tflm_outputs(int8, windows).argmax(axis=1)
    return Reference(
        counts=tuple(tuple(int(count) for count in channel) for channel in channel_histograms(windows)),
        class_counts=tuple(int(count) for count in np.bincount(answers, minlength=len(manifest.labels))),
        rows=len(windows),
    )


def golden_vector(int8: bytes, q: Quantisation, test: Dataset) -> GoldenVector:
    """Return the first test window and the bits that TFLM gives for it."""
    window = quantise(test.x[:1], q)
    return GoldenVector(input=window.tobytes(), output=tflm_outputs(int8, window).tobytes())
