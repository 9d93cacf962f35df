"""Who says and hears what: the routing tables of the services, and what is said outside of them."""

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from shared.events import Payload
from shared.events.dataset import DatasetAdded
from shared.events.device import DeviceReported
from shared.events.lab import LabBoardHealthChanged, LabJobEnded
from shared.events.source import SourcePushed
from shared.runtime.handlers import Handler, Route, Timer, Worker
from shared.telemetry import Telemetry

Message: TypeAlias = type[Payload] | type[Telemetry]


@dataclass(frozen=True, slots=True)
class Outside:
    """Messages that a participant says on another occasion than an event or a timer."""

    occasion: str
    emits: tuple[Message, ...]


COMMAND_LINE: Final = "edgeloop"
"""People, as a participant: no service, so without a README of its own."""

OUTSIDE: Final[Mapping[str, Outside]] = {
    "source_webhook": Outside("an HTTP delivery of a forge", (SourcePushed,)),
    "device_gateway": Outside("a poll of its boards", (DeviceReported, Telemetry)),
    "device_lab_scheduler": Outside("a step of its desk", (LabJobEnded, LabBoardHealthChanged)),
    COMMAND_LINE: Outside("`edgeloop data add`", (DatasetAdded,)),
}
"""What no routing table shows: a webhook arrives by HTTP, a gateway polls boards, people use the command line.

An `EMITS` beside a service's `ROUTES` takes precedence over the messages here.
"""


@dataclass(frozen=True, slots=True)
class Participant:
    """A process on the bus. `folder` is relative to the repository."""

    name: str
    folder: str
    routes: tuple[Route, ...]
    outside: Outside | None = None

    @property
    def consumes(self) -> tuple[Message, ...]:
        """Return what it hears, each message once, in the order of the routing table."""
        return _once(route.consumes for route in self.routes if isinstance(route, Handler | Worker))

    @property
    def emits(self) -> tuple[Message, ...]:
        """Return what it says, each message once, in the order of the routing table."""
        routed: list[Message] = [message for route in self.routes for message in route.emits]
        return _once(routed + list(self.outside.emits if self.outside else ()))


def participants(root: Path) -> list[Participant]:
    """Import every routing table under `root`: the services by name, then the gateway and the command line.

    Only `handlers.py` is imported, which no service lets depend on anything heavy.
    """
    services = sorted(path.parent.name for path in (root / "services").glob("*/__init__.py"))
    found = [_participant(name, f"services/{name}") for name in services]
    return [*found, _participant("device_gateway", "device_gateway"), _participant(COMMAND_LINE, "edgeloop")]


def describe(route: Route) -> str:
    """Return in a few words how a route runs."""
    match route:
        case Handler():
            return "handler, in one transaction"
        case Worker(concurrency=concurrency, key=key):
            order = ", in order per key" if key else ""
            return f"worker, {concurrency} at a time{order}"
        case Timer(period_s=period_s):
            return f"timer, every {period_s:g} s"


def _participant(name: str, folder: str) -> Participant:
    module = f"{folder.replace('/', '.')}.handlers"
    outside = OUTSIDE.get(name)
    if importlib.util.find_spec(module) is None:
        return Participant(name, folder, (), outside)
    handlers = importlib.import_module(module)
    participant = Participant(name, folder, tuple(handlers.ROUTES))
    # Some name what their routes emit EMITS as well: only what no route says is said outside.
    said = tuple(message for message in getattr(handlers, "EMITS", ()) if message not in participant.emits)
    if said:
        outside = Outside(outside.occasion if outside else "its own initiative", said)
    return replace(participant, outside=outside)


def _once(messages: Iterable[Message]) -> tuple[Message, ...]:
    return tuple(dict.fromkeys(messages))
