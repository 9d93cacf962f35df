"""Request and reply over NATS: typed questions to a micro service, typed answers or a named refusal.

For what must be answered at once and concerns nobody else; what happened, and what must not be lost, is an event.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import nats.errors
import nats.micro
from nats.aio.client import Client
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER
from nats.micro.request import Request as Incoming
from pydantic import BaseModel, ValidationError

from shared.bus.errors import BusError

log = logging.getLogger(__name__)

VERSION: Final = "1.0.0"
BAD_REQUEST: Final = "400"
TOO_LARGE: Final = "413"
BROKEN: Final = "500"

A = TypeVar("A", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)


class NobodyAnsweredError(BusError):
    """Nobody listens there, or no answer came in time. Whether it acted is unknown, and asking again is right."""


class RefusedError(BusError):
    """The service said no. `code` is its own kind of refusal."""

    def __init__(self, code: str, reason: str) -> None:
        """Args: code: as in HTTP; reason: for people."""
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q]):
    """One kind of question, and who answers it. The answer may be refused by raising `RefusedError`."""

    question: type[Q]
    answer: Callable[[Q], Awaitable[BaseModel]]


async def ask(nc: Client, root: str, question: BaseModel, answer: type[A], *, timeout_s: float = 5.0) -> A:
    """Ask the service below `root`, at the question's own verb.

    Raises:
        RefusedError: it said no.
        NobodyAnsweredError: nobody listens, or the answer did not come in time.
    """
    subject = f"{root}.{verb_of(type(question))}"
    try:
        message = await nc.request(subject, question.model_dump_json().encode(), timeout=timeout_s)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError, nats.errors.ConnectionClosedError) as error:
        raise NobodyAnsweredError(
            f"{subject}: nobody answered within {timeout_s:g} s ({type(error).__name__}); see that the service runs"
        ) from error
    headers = message.headers or {}
    if code := headers.get(ERROR_CODE_HEADER):
        raise RefusedError(code, message.data.decode() or headers.get(ERROR_HEADER, ""))
    try:
        return answer.model_validate_json(message.data)
    except ValidationError as error:
        raise RefusedError(BROKEN, f"{subject}: the answer is no {answer.__name__}: {error}") from error


@asynccontextmanager
async def answering(nc: Client, name: str, root: str, endpoints: Mapping[str, Endpoint[Any]]) -> AsyncIterator[None]:
    """Answer at `root`.<verb> as the micro service `name` until the block is left, several questions at a time."""
    at_work: set[asyncio.Task[None]] = set()

    def handler(endpoint: Endpoint[Any]) -> Callable[[Incoming], Awaitable[None]]:
        async def handle(incoming: Incoming) -> None:
            task = asyncio.create_task(_answer(endpoint, incoming))
            at_work.add(task)
            task.add_done_callback(at_work.discard)

        return handle

    service = await nats.micro.add_service(nc, name=name, version=VERSION)
    group = service.add_group(name=root)
    try:
        for verb, endpoint in endpoints.items():
            await group.add_endpoint(name=verb, handler=handler(endpoint))
        yield
    finally:
        for task in at_work:
            task.cancel()
        if not nc.is_closed:
            await service.stop()


def endpoint_table(*endpoints: Endpoint[Any]) -> dict[str, Endpoint[Any]]:
    """Return the endpoints by the verbs of their questions."""
    return {verb_of(endpoint.question): endpoint for endpoint in endpoints}


def verb_of(question: type[BaseModel]) -> str:
    """Return the last token of the subject that `question` goes to."""
    verb: str = vars(question)["VERB"]
    return verb


async def _answer(endpoint: Endpoint[Any], incoming: Incoming) -> None:
    try:
        question = endpoint.question.model_validate_json(incoming.data)
        answer = await endpoint.answer(question)
    except ValidationError as error:
        await _refuse(incoming, BAD_REQUEST, f"{incoming.subject}: {error.errors(include_url=False)}")
    except RefusedError as error:
        await _refuse(incoming, error.code, str(error))
    except Exception as error:
        log.exception("could not answer %s", incoming.subject)
        await _refuse(incoming, BROKEN, f"{incoming.subject}: {type(error).__name__}: {error}")
    else:
        await _respond(incoming, answer.model_dump_json().encode())


async def _respond(incoming: Incoming, answer: bytes) -> None:
    try:
        await incoming.respond(answer)
    except nats.errors.MaxPayloadError:
        said = (
            f"{incoming.subject}: the answer has {len(answer):,} bytes, more than the bus carries. Next: ask for less"
        )
        await _refuse(incoming, TOO_LARGE, said)


async def _refuse(incoming: Incoming, code: str, reason: str) -> None:
    # A header is one line: the whole reason is the body.
    await incoming.respond_error(code, reason.splitlines()[0][:200], reason.encode())
