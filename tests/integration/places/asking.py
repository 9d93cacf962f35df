"""Asks the place `rack-1` over the bus."""

from nats.aio.client import Client

from shared.bus.exchanges import NobodyAnsweredError, ask
from shared.lab.messages import PLACE_ROOT, AskProgress, Done, Progress, Request
from tests.support import eventually

ROOT = f"{PLACE_ROOT}.rack-1"


async def done(nc: Client, question: Request) -> None:
    async def answered() -> Done | None:
        try:
            return await ask(nc, ROOT, question, Done)
        except NobodyAnsweredError:
            return None  # it is about to listen

    await eventually(answered)


async def progress(nc: Client, board: str, token: int) -> Progress:
    return await ask(nc, ROOT, AskProgress(board=board, token=token), Progress)
