"""The webhook service reacts to HTTP, not to events; its answers to requests are in `adapters`."""

from typing import Final

from shared.events import Payload
from shared.events.source import SourcePushed
from shared.runtime.handlers import Route

ROUTES: Final[tuple[Route, ...]] = ()

EMITS: Final[tuple[type[Payload], ...]] = (SourcePushed,)
"""Said in answer to HTTP requests: the generated documents cannot see it in `ROUTES`."""
