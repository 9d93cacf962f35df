"""What the device lab measures beside what the runtime does."""

from collections import Counter as Counted
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from shared.events.lab import CandidateAccepted, CandidateRefused, Health, LabJobEnded
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


_ENDED: Final = Counter("edgeloop_lab_jobs_ended_total", "Jobs by what they ended in", ("kind", "verdict"))
_WAITED: Final = Histogram(
    "edgeloop_lab_wait_seconds",
    "From a job's submission to its first board",
    ("kind",),
    buckets=(0.1, 1, 10, 60, 300, 1800, 7200),
)
_JOBS: Final = Gauge("edgeloop_lab_jobs", "Jobs that have not ended", ("state",))
_BOARDS: Final = Gauge("edgeloop_lab_boards", "Boards by how far they are trusted", ("health",))
_PLACES: Final = Gauge("edgeloop_lab_live_places", "Places that were heard lately")
_STEP_SECONDS: Final = Histogram(
    "edgeloop_lab_step_seconds",
    "One step of the leading desk, without waiting for places",
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 2),
)


def count_end(ended: LabJobEnded) -> None:
    """Count a job that ended."""
    _ENDED.labels(ended.kind, ended.verdict).inc()
    if ended.attempts:
        _WAITED.labels(ended.kind).observe(ended.waited_s)


def show_lab(jobs: Mapping[str, int], boards: Iterable[Health], places: int) -> None:
    """Show what the leading desk sees."""
    for state, number in jobs.items():
        _JOBS.labels(state).set(number)
    counted = Counted(boards)
    for health in Health:
        _BOARDS.labels(health).set(counted[health])
    _PLACES.set(places)


def time_step(seconds: float) -> None:
    """Record how long a step took."""
    _STEP_SECONDS.observe(seconds)


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
