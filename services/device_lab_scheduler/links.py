"""How the desk reaches the agents of places."""

from typing import Final, Protocol, TypeVar

from nats.aio.client import Client

from shared.bus.exchanges import NobodyAnsweredError, ask
from shared.lab.messages import PLACE_ROOT, AskProgress, Begin, Done, Grant, Message, Progress, Shut

A = TypeVar("A", bound=Message)

_PATIENCE_S: Final = 1.5
"""Less than the grace of a lease: a place counts a grant from when it hears it."""


class PlaceSilentError(RuntimeError):
    """The place did not answer. Whether it acted is unknown, and saying the same again is right."""


class PlaceLink(Protocol):
    """What the desk says to places.

    Every method raises PlaceSilentError when no answer came, and RefusedError when the answer was no.
    """

    async def grant(self, place: str, asked: Grant) -> None:
        """Let a token in, or for longer."""

    async def begin(self, place: str, asked: Begin) -> None:
        """Start the work of a token."""

    async def progress(self, place: str, asked: AskProgress) -> Progress:
        """Return how far it is."""

    async def shut(self, place: str, asked: Shut) -> None:
        """Let a token in no more."""


class BusLink:
    """Places on the bus."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc

    async def grant(self, place: str, asked: Grant) -> None:
        """Let a token in, or for longer."""
        await self._ask(place, asked, Done)

    async def begin(self, place: str, asked: Begin) -> None:
        """Start the work of a token."""
        await self._ask(place, asked, Done)

    async def progress(self, place: str, asked: AskProgress) -> Progress:
        """Return how far it is."""
        return await self._ask(place, asked, Progress)

    async def shut(self, place: str, asked: Shut) -> None:
        """Let a token in no more."""
        await self._ask(place, asked, Done)

    async def _ask(self, place: str, asked: Message, answer: type[A]) -> A:
        try:
            return await ask(self._nc, f"{PLACE_ROOT}.{place}", asked, answer, timeout_s=_PATIENCE_S)
        except NobodyAnsweredError as error:
            raise PlaceSilentError(str(error)) from error
