"""What the model validator measures beside what the runtime does."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter

from shared.events import Check

_CHECKS: Final = Counter("edgeloop_model_checks_total", "Checks of models by their answer", ("check", "outcome"))


def count(checks: Iterable[Check]) -> None:
    """Count the answers of one release."""
    for check in checks:
        _CHECKS.labels(check.name, check.outcome).inc()
