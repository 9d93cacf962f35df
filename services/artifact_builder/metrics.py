"""What the artifact builder measures beside what the runtime does."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

BUILDS: Final = Counter("edgeloop_builds_total", "Builds by how they ended", ("outcome",))
STAGE_SECONDS: Final = Histogram(
    "edgeloop_build_stage_seconds",
    "Wall clock of one stage of a successful build",
    ("stage",),
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800),
)
CACHE_BYTES: Final = Gauge(
    "edgeloop_stage_cache_bytes", "What remembered stages take in the object store, when this replica last made room"
)
CACHE_EVICTIONS: Final = Counter(
    "edgeloop_stage_cache_evictions_total", "Stages that this replica removed to make room"
)
