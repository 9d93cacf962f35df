"""Deliveries over HTTP, onto a real bus."""

import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from nats.aio.client import Client
from pydantic import SecretStr
from starlette.applications import Starlette

from services.source_webhook.adapters import Deps, webhook_routes
from shared.bus import EmbeddedServer, Publisher
from shared.events import Event
from shared.events.catalogue import decode
from shared.events.source import SourcePushed

SECRET = "a secret of many characters"
LIMIT_BYTES = 4096
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def app_of(nc: Client) -> Starlette:
    deps = Deps(
        publisher=Publisher(nc, "source_webhook"),
        secret=SecretStr(SECRET),
        body_limit_bytes=LIMIT_BYTES,
        publish_timeout_s=1,
    )
    return Starlette(routes=list(webhook_routes(deps)))


@pytest.fixture
async def client(nc: Client) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of(nc)), base_url="http://webhook") as client:
        yield client


def push_body(**changes: Any) -> bytes:
    body = {
        "ref": "refs/heads/main",
        "after": COMMIT,
        "repository": {"full_name": "acme/gait", "clone_url": "https://github.example/acme/gait.git"},
        "pusher": {"name": "ada"},
    }
    return json.dumps(body | changes).encode()


def headers_for(body: bytes, *, event: str = "push", delivery: str | None = None) -> dict[str, str]:
    return {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }


async def stored(nc: Client) -> list[Event[SourcePushed]]:
    js = nc.jetstream()
    count = (await js.stream_info("EVENTS")).state.messages
    messages = [await js.get_msg("EVENTS", seq=number) for number in range(1, count + 1)]
    return [decode(message.subject or "", message.data or b"") for message in messages]  # type: ignore[misc]


async def test_a_signed_push_becomes_one_event(client: httpx.AsyncClient, nc: Client) -> None:
    body = push_body()
    answer = await client.post("/webhooks/github", content=body, headers=headers_for(body))
    assert answer.status_code == 202
    (event,) = await stored(nc)
    assert answer.json() == {"run_id": str(event.correlationid), "project": "acme-gait", "commit": COMMIT}
    assert (event.data.repository, event.data.pusher) == ("https://github.example/acme/gait.git", "ada")


async def test_a_redelivery_is_the_same_event(client: httpx.AsyncClient, nc: Client) -> None:
    body = push_body()
    headers = headers_for(body, delivery="once")
    first = await client.post("/webhooks/github", content=body, headers=headers)
    second = await client.post("/webhooks/github", content=body, headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json() | {"duplicate": True}
    assert len(await stored(nc)) == 1


async def test_two_deliveries_of_one_commit_are_two_runs(client: httpx.AsyncClient, nc: Client) -> None:
    body = push_body()
    for _ in range(2):
        await client.post("/webhooks/github", content=body, headers=headers_for(body))
    assert len({event.correlationid for event in await stored(nc)}) == 2


BAD = [
    ("wrong signature", push_body(), {"X-Hub-Signature-256": "sha256=" + "0" * 64}, 401, "does not match"),
    ("no signature", push_body(), {"X-Hub-Signature-256": ""}, 401, "missing"),
    ("only SHA-1", push_body(), {"X-Hub-Signature-256": "", "X-Hub-Signature": "sha1=" + "0" * 40}, 401, "SHA-1"),
    ("too large", b" " * (LIMIT_BYTES + 1), {}, 413, "4096 bytes"),
    ("not JSON", b"{", {}, 400, "not JSON"),
    ("no commit", push_body(after=None), {}, 422, "after"),
    ("short commit", push_body(after="abc"), {}, 422, "after"),
    ("no repository", push_body(repository=None), {}, 422, "repository.clone_url"),
]


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
async def test_a_bad_delivery_is_refused_and_publishes_nothing(
    client: httpx.AsyncClient, nc: Client, *, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = await client.post("/webhooks/github", content=body, headers=headers_for(body) | headers)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert SECRET not in answer.text
    assert await stored(nc) == []


@pytest.mark.parametrize(
    ("body", "event", "status", "key"),
    [
        (push_body(after="0" * 40), "push", 202, "ignored"),
        (push_body(ref="refs/tags/v1"), "push", 202, "ignored"),
        (b"{}", "issues", 202, "ignored"),
        (b"{}", "ping", 200, "pong"),
    ],
)
async def test_what_is_no_push_of_a_branch_is_answered_and_starts_nothing(
    client: httpx.AsyncClient, nc: Client, *, body: bytes, event: str, status: int, key: str
) -> None:
    answer = await client.post("/webhooks/github", content=body, headers=headers_for(body, event=event))
    assert answer.status_code == status
    assert key in answer.json()
    assert await stored(nc) == []


async def test_reading_stops_at_the_limit_when_no_length_is_declared(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * LIMIT_BYTES:
            sent += 1024
            yield b"x" * 1024

    answer = await client.post("/webhooks/github", content=endless())
    assert answer.status_code == 413
    assert sent <= LIMIT_BYTES + 1024


async def test_while_the_bus_is_down_the_forge_is_told_to_retry_and_later_it_works(
    client: httpx.AsyncClient, nc: Client, nats_server: EmbeddedServer
) -> None:
    body = push_body()
    headers = headers_for(body)
    nats_server.kill()
    answer = await client.post("/webhooks/github", content=body, headers=headers)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    nats_server.start()
    for _ in range(20):
        answer = await client.post("/webhooks/github", content=body, headers=headers)
        if answer.status_code == 202:
            break
    assert answer.status_code == 202
    assert len(await stored(nc)) == 1


async def test_gitlab_and_forgejo_deliver_too(client: httpx.AsyncClient, nc: Client) -> None:
    gitlab = {
        "ref": "refs/heads/main",
        "after": COMMIT,
        "project": {"path_with_namespace": "acme/sub/gait", "git_http_url": "https://gitlab.example/acme/sub/gait.git"},
    }
    answer = await client.post(
        "/webhooks/gitlab", json=gitlab, headers={"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET}
    )
    assert answer.status_code == 202
    body = push_body()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    forgejo = {"X-Forgejo-Event": "push", "X-Forgejo-Delivery": "1", "X-Forgejo-Signature": signature}
    answer = await client.post("/webhooks/gitea", content=body, headers=forgejo)
    assert answer.status_code == 202
    assert [event.data.forge for event in await stored(nc)] == ["gitlab", "gitea"]
