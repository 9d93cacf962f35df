"""The HTTP side: bytes in within a limit, a checked delivery onto the bus, a status code that the forge understands."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, assert_never
from uuid import UUID

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from services.source_webhook import metrics
from services.source_webhook.domain import (
    DIALECTS,
    Dialect,
    FieldError,
    Ignored,
    MalformedError,
    Ping,
    Push,
    SignatureError,
    check_signature,
    read_webhook,
)
from shared.events import Payload

RETRY_AFTER_S: Final = 5

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """The part of the bus publisher that a webhook needs."""

    async def publish(self, payload: Payload, *, event_id: UUID, run_id: UUID, cause_id: UUID | None = None) -> bool:
        """Publish once; return True when the server knew the id already."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What the routes need."""

    publisher: Publisher
    secret: SecretStr
    body_limit_bytes: int
    publish_timeout_s: float


class BodyTooLargeError(Exception):
    """More bytes arrived than the limit allows; the rest was not read."""


_STATUS: Final[Mapping[type[Exception], int]] = {
    BodyTooLargeError: 413,
    SignatureError: 401,
    MalformedError: 400,
    ClientDisconnect: 400,
    FieldError: 422,
}


def webhook_routes(deps: Deps) -> Sequence[BaseRoute]:
    """Return one route a forge: ``POST /webhooks/github`` and so on."""
    return [
        Route(f"/webhooks/{dialect.forge}", partial(receive, deps, dialect), methods=["POST"])
        for dialect in DIALECTS.values()
    ]


async def receive(deps: Deps, dialect: Dialect, request: Request) -> JSONResponse:
    """Answer one delivery, and count the answer."""
    response = await _answer(deps, dialect, request)
    metrics.DELIVERIES.labels(forge=dialect.forge, status=response.status_code).inc()
    return response


async def _answer(deps: Deps, dialect: Dialect, request: Request) -> JSONResponse:
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        body = await read_body(request, deps.body_limit_bytes)
        check_signature(dialect, deps.secret.get_secret_value(), headers, body)
        meaning = read_webhook(dialect, headers, body)
    except tuple(_STATUS) as error:
        status = _STATUS[type(error)]
        log.warning("delivery refused", extra={"forge": dialect.forge, "status": status, "reason": str(error)})
        return JSONResponse({"error": str(error)}, status_code=status)
    match meaning:
        case Ping():
            return JSONResponse({"pong": True})
        case Ignored(reason):
            log.info("delivery ignored", extra={"forge": dialect.forge, "reason": reason})
            return JSONResponse({"ignored": reason}, status_code=202)
        case Push():
            return await _publish(deps, meaning)
        case _:
            assert_never(meaning)


async def _publish(deps: Deps, push: Push) -> JSONResponse:
    payload = push.payload
    try:
        async with asyncio.timeout(deps.publish_timeout_s):
            duplicate = await deps.publisher.publish(payload, event_id=push.event_id, run_id=push.run_id)
    except Exception as error:  # noqa: BLE001 - whatever the bus raised, only a redelivery by the forge mends it
        log.warning("push not published", extra={"delivery": payload.delivery, "error": repr(error)})
        return JSONResponse(
            {"error": "the event bus stored nothing: it is out of reach or its disk is full; deliver again later"},
            status_code=503,
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    log.info("push published", extra={"run_id": str(push.run_id), "commit": payload.commit, "duplicate": duplicate})
    answer: dict[str, object] = {"run_id": str(push.run_id), "project": payload.project, "commit": payload.commit}
    return JSONResponse(answer | {"duplicate": True} if duplicate else answer, status_code=202)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Return the body, reading no more than `limit_bytes`.

    Raises:
        BodyTooLargeError: the declared or the real length is over the limit.
    """
    too_large = f"the body is over {limit_bytes} bytes; raise EDGELOOP_WEBHOOK_BODY_LIMIT_BYTES if that is meant"
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise BodyTooLargeError(too_large)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLargeError(too_large)
    return bytes(body)
