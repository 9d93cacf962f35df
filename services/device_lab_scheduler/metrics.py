"""What the device lab measures beside what the runtime does."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Histogram

from shared.events.lab import CandidateAccepted, CandidateRefused
from shared.procedures.staging import BoardRun

_RESULTS: Final = Counter("edgeloop_lab_results_total", "Releases by how staging ended", ("outcome", "reused"))
_FAILURES: Final = Counter(
    "edgeloop_lab_infrastructure_failures_total", "Stagings that the lab itself could not finish"
)
_BOARD_SECONDS: Final = Histogram(
    "edgeloop_lab_board_seconds",
    "Smoke and acceptance test of one firmware on one board",
    ("board",),
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
)


def count_result(result: CandidateAccepted | CandidateRefused, *, reused: bool) -> None:
    """Count a staging that ended."""
    outcome = "accepted" if isinstance(result, CandidateAccepted) else "refused"
    _RESULTS.labels(outcome, str(reused).lower()).inc()


def count_runs(runs: Iterable[BoardRun]) -> None:
    """Record how long boards took."""
    for run in runs:
        _BOARD_SECONDS.labels(run.board).observe(run.seconds)


def count_infrastructure_failure() -> None:
    """Count a staging that says nothing about its release."""
    _FAILURES.inc()
