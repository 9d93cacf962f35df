"""The contract between services: what can be said on the bus.

One module per domain holds the payloads, `envelope` wraps them as CloudEvents, `catalogue` lists them all.
"""

from shared.events._base import Blob, Check, CheckOutcome, Command, Commit, Digest, Payload, Slug, Trigger, digest_of
from shared.events.envelope import Event, derived_id, envelop

__all__ = [
    "Blob",
    "Check",
    "CheckOutcome",
    "Command",
    "Commit",
    "Digest",
    "Event",
    "Payload",
    "Slug",
    "Trigger",
    "derived_id",
    "digest_of",
    "envelop",
]
