"""MLPerf Tiny's performance rule: five windows of at least ten seconds each, and their median."""

import math
import statistics
import time
from dataclasses import dataclass
from typing import Final

from shared.mlperf_tiny import Diagnosis, DutError, Trouble
from shared.mlperf_tiny.session import Run, Session

WINDOWS: Final = 5
WINDOW_S: Final = 10.0
_WARM_UPS: Final = 1
_MARGIN: Final = 1.05
"""What a window is planned to be longer than it must: a short one is void."""
_TRIES: Final = 2
"""A board's counter may run over in one window; not in two one after the other."""
_CLOCK_TOLERANCE: Final = 0.05
_CONVERSATION_S: Final = 0.2
"""What the host's watch shows beyond the board's: the commands and answers around a window."""


@dataclass(frozen=True, slots=True)
class Window:
    """One run, by the board's timer and by the host's watch."""

    inferences: int
    board_s: float
    host_s: float

    @property
    def latency_ms(self) -> float:
        """Mean of the window."""
        return self.board_s / self.inferences * 1e3

    @property
    def clocks_agree(self) -> bool:
        """Whether the board's second is a second. An emulator's is not, nor that of a wrongly set timer."""
        return abs(self.host_s - self.board_s) <= _CLOCK_TOLERANCE * self.host_s + _CONVERSATION_S


@dataclass(frozen=True, slots=True)
class Performance:
    """What the windows gave."""

    windows: tuple[Window, ...]

    @property
    def latency_ms(self) -> float:
        """Median of the windows' means, by the board's own timer."""
        return statistics.median(window.latency_ms for window in self.windows)

    @property
    def clocks_agree(self) -> bool:
        """Whether board and host agree on every window."""
        return all(window.clocks_agree for window in self.windows)


def measure(session: Session, tensor: bytes, *, windows: int = WINDOWS, window_s: float = WINDOW_S) -> Performance:
    """Run one input in `windows` windows of at least `window_s` seconds, all of as many inferences.

    Raises:
        DutError: the board's timer stands still or runs back, or the way to it is at fault.
    """
    session.load(tensor)
    inferences = 1
    long_enough: list[Window] = []
    while len(long_enough) < windows:
        window = _window(session, inferences, window_s)
        if window.board_s >= window_s:
            long_enough.append(window)
        else:
            inferences = more_inferences(window, window_s)
            long_enough = []
    return Performance(tuple(long_enough))


def more_inferences(window: Window, window_s: float) -> int:
    """Return how many inferences take at least `window_s`, judged by a window that was too short."""
    return max(window.inferences + 1, math.ceil(window.inferences * window_s * _MARGIN / window.board_s))


def _window(session: Session, inferences: int, window_s: float) -> Window:
    for _ in range(_TRIES):
        begin = time.monotonic()
        run = session.infer(inferences, _WARM_UPS, computes_s=3 * window_s)
        host_s = time.monotonic() - begin
        if run.end_us > run.begin_us:
            return Window(run.times, (run.end_us - run.begin_us) / 1e6, host_s)
    raise DutError(_stuck(run))


def _stuck(run: Run) -> Diagnosis:
    return Diagnosis(
        Trouble.NOT_A_DUT,
        f"the board's timer said {run.begin_us} µs before {run.times} inferences and {run.end_us} µs after them",
        "let timestamp% count microseconds that do not run over within a window",
    )
