"""The JetStream layer: topology as data, publisher, consumer runner, dead letters."""

from shared.bus.outcomes import Reject, Retry

__all__ = ["Reject", "Retry"]
