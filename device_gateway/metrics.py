"""What a gateway measures beside what the runtime does."""

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from shared.events.device import DeviceState

INSTALLS: Final = Histogram(
    "edgeloop_gateway_install_seconds",
    "From the order to what was observed at its end",
    ["outcome"],
    buckets=(0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600),
)
DEVICES: Final = Gauge("edgeloop_gateway_devices", "Boards by the state they were last seen in", ["state"])
INFERENCES: Final = Counter("edgeloop_gateway_inferences", "Inferences in telemetry that the bus acknowledged")
WAITING: Final = Gauge("edgeloop_gateway_batches_waiting", "Telemetry batches that the bus has not acknowledged")


def show_states(states: Iterable[DeviceState]) -> None:
    """Set the gauge of every state."""
    tally = Tally(states)
    for state in DeviceState:
        DEVICES.labels(state).set(tally[state])
