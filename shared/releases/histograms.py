"""The 32-bin histograms that boards keep and the drift monitor compares: integers only, 64 bytes a channel."""

import numpy as np
import numpy.typing as npt

from shared.releases.release import HISTOGRAM_BINS, Quantisation


def quantise(x: npt.NDArray[np.float32], q: Quantisation) -> npt.NDArray[np.int8]:
    """Return ``round(x / scale) + zero_point`` clipped to int8, half away from zero as the firmware rounds."""
    scaled = x.astype(np.float64) / q.scale
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + q.zero_point
    q8: npt.NDArray[np.int8] = np.clip(rounded, -128, 127).astype(np.int8)
    return q8


def channel_histograms(q: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Return counts of shape (channels, 32) of quantised windows of shape (..., channels)."""
    channels = q.shape[-1]
    bins = (q.reshape(-1, channels).astype(np.int64) + 128) >> 3
    flat = bins + np.arange(channels) * HISTOGRAM_BINS
    counts: npt.NDArray[np.int64] = np.bincount(flat.ravel(), minlength=channels * HISTOGRAM_BINS).reshape(
        channels, HISTOGRAM_BINS
    )
    return counts
