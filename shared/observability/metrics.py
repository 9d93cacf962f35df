"""What the runtime measures of every service."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS_HANDLED: Final = Counter(
    "edgeloop_events_handled_total", "Events by how their handling ended", ("service", "consumer", "outcome")
)
EVENT_SECONDS: Final = Histogram(
    "edgeloop_event_handling_seconds",
    "From delivery to outcome, of one event or of one batch that shares a transaction",
    ("service", "consumer"),
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1800),
)
EVENTS_EMITTED: Final = Counter("edgeloop_events_emitted_total", "Events written to the outbox", ("service", "type"))
OUTBOX_WAITING: Final = Gauge("edgeloop_outbox_waiting", "Messages committed and not yet published", ("service",))
