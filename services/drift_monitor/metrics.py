"""What the drift monitor measures beside what the runtime does."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.drift_monitor.domain import Verdict, Zone

PSI: Final = Gauge(
    "edgeloop_drift_psi", "Population stability index of the worst input channel, in the last window", ("project",)
)
CLASS_PSI: Final = Gauge(
    "edgeloop_drift_class_psi", "Population stability index of the predicted classes, in the last window", ("project",)
)
THRESHOLD: Final = Gauge("edgeloop_drift_psi_threshold", "Index from which on a window counts as drifted", ("project",))
DRIFTING: Final = Gauge("edgeloop_drift_active", "1 while the running release's inputs have drifted", ("project",))
WAITING_INFERENCES: Final = Gauge(
    "edgeloop_drift_window_inferences", "Inferences gathered for the next window", ("project",)
)
REPORTS: Final = Counter(
    "edgeloop_drift_reports_total",
    "Device reports by what became of them: taken, repeated, no-release, unknown-release, closed-release, malformed",
    ("project", "outcome"),
)
MISSED: Final = Counter(
    "edgeloop_drift_reports_missed_total", "Device reports that never came, by gaps in their sequence", ("project",)
)


def show(project: str, verdict: Verdict, zone: Zone, threshold: float) -> None:
    """Set the gauges to the verdict on a window."""
    PSI.labels(project).set(verdict.statistic)
    CLASS_PSI.labels(project).set(verdict.class_statistic)
    THRESHOLD.labels(project).set(threshold)
    DRIFTING.labels(project).set(zone is Zone.DRIFT)
