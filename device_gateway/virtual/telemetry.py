"""What a board remembers of its inferences until its gateway has stored it: counts and histograms, no samples.

A report is closed when it is read or when another image runs, and never changes afterwards; it is forgotten when a
read says that it was stored. Meanwhile counts go into the next one, so a silent gateway costs resolution, not counts.
"""

from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.emulation import FirmwareInfo
from shared.releases.histograms import channel_histograms
from shared.releases.release import HISTOGRAM_BINS
from shared.telemetry import DeviceReport, Histogram

_CLOSED_REPORTS = 16
"""One is enough unless images change faster than the gateway reads."""


class _Open:
    """The report that counts are added to."""

    def __init__(self, image_hash: str, channels: int, classes: int) -> None:
        self.image_hash = image_hash
        self.inferences = 0
        self.classes = np.zeros(classes, np.int64)
        self.inputs = np.zeros((channels, HISTOGRAM_BINS), np.int64)
        self.confidence = np.zeros(HISTOGRAM_BINS, np.int64)


class TelemetryLog:
    """A board's reports. Sequences survive a reset in a file, so that they never repeat."""

    def __init__(self, sequence_file: Path) -> None:
        self._file = sequence_file
        if not sequence_file.exists():
            sequence_file.write_text("0")
        self._sequence = int(sequence_file.read_text() or 0)
        self._open: _Open | None = None
        self._closed: deque[tuple[str, DeviceReport]] = deque(maxlen=_CLOSED_REPORTS)

    def observe(self, image_hash: str, info: FirmwareInfo, window: npt.NDArray[np.int8], output: bytes) -> int:
        """Add one inference and return the class it predicts.

        Args:
            image_hash: The image that ran.
            info: Its quantisation.
            window: The quantised input, channels last.
            output: The int8 output tensor.
        """
        scores = np.frombuffer(output, np.int8).astype(np.int64)
        if self._open is None or self._open.image_hash != image_hash:
            self.close_report()
            self._open = _Open(image_hash, window.shape[-1], len(scores))
        predicted = int(scores.argmax())
        probability = info.output_scale * (int(scores[predicted]) - info.output_zero_point)
        report = self._open
        report.inferences += 1
        report.classes[predicted] += 1
        report.inputs += channel_histograms(window)
        report.confidence[min(HISTOGRAM_BINS - 1, max(0, int(probability * HISTOGRAM_BINS)))] += 1
        return predicted

    def close_report(self) -> None:
        """Make what was counted so far a report of its own."""
        if self._open is None:
            return
        self._sequence += 1
        with self._file.open("r+") as file:  # in place: the number never gets shorter, and a full disk cannot lose it
            file.write(str(self._sequence))
        report = DeviceReport(
            sequence=self._sequence,
            inferences=self._open.inferences,
            class_counts=self._open.classes.tolist(),
            inputs=[Histogram(counts=row) for row in self._open.inputs.tolist()],
            confidence=Histogram(counts=self._open.confidence.tolist()),
        )
        self._closed.append((self._open.image_hash, report))
        self._open = None

    def read(self, after: int) -> tuple[str, DeviceReport, bool] | None:
        """Forget the reports up to `after`; return the next one's image hash, itself, and whether more wait."""
        # A board whose flash was replaced goes on behind what its gateway has already seen.
        self._sequence = max(self._sequence, after)
        while self._closed and self._closed[0][1].sequence <= after:
            self._closed.popleft()
        if not self._closed:
            self.close_report()
        if not self._closed:
            return None
        image_hash, report = self._closed[0]
        return image_hash, report, len(self._closed) > 1

    def lose(self) -> None:
        """Forget what only RAM held: the power went away."""
        self._open = None
        self._closed.clear()
