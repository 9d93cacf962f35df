"""State: SQL with inbox and outbox in one transaction, and blobs by digest in the JetStream object store."""

from shared.store.blobs import BlobMissingError, BlobReader, Blobs, load_index, load_release
from shared.store.inbox import Inbox
from shared.store.outbox import Outbox, OutgoingMessage
from shared.store.sql import Store, StoreUnavailableError

__all__ = [
    "BlobMissingError",
    "BlobReader",
    "Blobs",
    "Inbox",
    "Outbox",
    "OutgoingMessage",
    "Store",
    "StoreUnavailableError",
    "load_index",
    "load_release",
]
