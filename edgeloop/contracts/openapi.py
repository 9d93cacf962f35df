"""OpenAPI 3.1 of what Edgeloop answers by HTTP.

The endpoints are declared here and not read from the code: Starlette routes know neither bodies nor answers.
A contract test holds the declaration against the routes that the webhook service really mounts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shared.events.source import Forge


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path, its method, and when it answers what."""

    method: str
    path: str
    summary: str
    answers: Mapping[int, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    """Required request headers, with what they hold."""
    media_type: str = "application/json"


_WEBHOOK_ANSWERS: Final = {
    200: "A ping: the webhook is set up",
    202: "A run began, or this delivery was taken before, or there was nothing to do and the body says why",
    400: "The body is not a JSON object",
    401: "The proof of the secret is missing, of a refused kind, or wrong",
    413: "The body is over the limit",
    422: "A field is missing or wrong: the answer names it",
    503: "The bus did not confirm: deliver again",
}
_PROOFS: Final[Mapping[Forge, Mapping[str, str]]] = {
    Forge.GITHUB: {"X-Hub-Signature-256": "sha256= and the HMAC-SHA256 of the raw body, hex"},
    Forge.GITLAB: {"X-Gitlab-Token": "The secret itself"},
    Forge.GITEA: {"X-Gitea-Signature": "The HMAC-SHA256 of the raw body, hex"},
}

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *(
        Endpoint("post", f"/webhooks/{forge}", f"Deliver a push of {forge}", _WEBHOOK_ANSWERS, _PROOFS[forge])
        for forge in Forge
    ),
    Endpoint("get", "/healthz", "Is the process alive?", {200: "It is"}),
    Endpoint(
        "get",
        "/readyz",
        "Can it work?",
        {200: "The bus and the database answer", 503: "One does not: the body names it"},
    ),
    Endpoint("get", "/metrics", "Prometheus metrics", {200: "Text exposition format"}, media_type="text/plain"),
)


def openapi(version: str) -> dict[str, Any]:
    """Return the document for `ENDPOINTS`."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Edgeloop",
            "version": version,
            "description": "Webhooks are source_webhook's. Every service answers /healthz, /readyz and /metrics.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": endpoint.summary}
    if endpoint.headers:
        operation["parameters"] = [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in endpoint.headers.items()
        ]
    if endpoint.method == "post":
        operation["requestBody"] = {
            "required": True,
            "description": "The push payload as the forge documents it",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    operation["responses"] = {
        str(status): {
            "description": text,
            "content": {
                endpoint.media_type: {"schema": {"type": "object" if "json" in endpoint.media_type else "string"}}
            },
        }
        for status, text in endpoint.answers.items()
    }
    return operation
