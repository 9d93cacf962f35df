"""What the webhook service measures beside what the runtime does."""

from typing import Final

from prometheus_client import Counter

DELIVERIES: Final = Counter(
    "edgeloop_webhook_deliveries_total", "Webhook deliveries by how they were answered", ("forge", "status")
)
