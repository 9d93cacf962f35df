"""What the artifact builder measures beside what the runtime does."""

from typing import Final

from prometheus_client import Counter, Histogram

BUILDS: Final = Counter("edgeloop_builds_total", "Builds by how they ended", ("outcome",))
STAGE_SECONDS: Final = Histogram(
    "edgeloop_build_stage_seconds",
    "Wall clock of one stage of a successful build",
    ("stage",),
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800),
)
