"""What a webhook means: three dialects as data, and the pure functions that read them.

The order is that of the request: signature over the raw bytes, then the event's name, then the body's fields.
Sources: https://docs.github.com/webhooks, https://docs.gitlab.com/user/project/integrations/webhook_events/,
https://forgejo.org/docs/latest/user/webhooks/.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias
from uuid import UUID

from shared.events import derived_id
from shared.events.source import Forge, SourcePushed

SLUG_LENGTH: Final = 63
SUFFIX_LENGTH: Final = 8
_CLEAN_NAME: Final = re.compile(r"[a-z0-9]+/[a-z0-9-]+")
_LOOKS_SUFFIXED: Final = re.compile(rf".*-[0-9a-f]{{{SUFFIX_LENGTH}}}")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CLONE_URL: Final = re.compile(r"(?:https?|ssh|file)://\S+")
_BRANCH: Final = "refs/heads/"


class Proof(StrEnum):
    """How a forge proves that it knows the secret."""

    PREFIXED_HMAC = "sha256=<HMAC-SHA256 of the body, hex>"
    BARE_HMAC = "<HMAC-SHA256 of the body, hex>"
    TOKEN = "<the secret itself>"  # noqa: S105 - a description


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where one forge puts what. Headers are lower case, and of several the first present counts; fields are dotted."""

    forge: Forge
    proof: Proof
    proof_headers: tuple[str, ...]
    event_headers: tuple[str, ...]
    delivery_headers: tuple[str, ...]
    push_event: str
    ping_event: str | None
    name_field: str
    clone_url_field: str
    pusher_field: str
    refused_headers: Mapping[str, str]
    """Headers that prove too little on their own, and why."""


DIALECTS: Final[Mapping[Forge, Dialect]] = {
    dialect.forge: dialect
    for dialect in (
        Dialect(
            forge=Forge.GITHUB,
            proof=Proof.PREFIXED_HMAC,
            proof_headers=("x-hub-signature-256",),
            event_headers=("x-github-event",),
            delivery_headers=("x-github-delivery",),
            push_event="push",
            ping_event="ping",
            name_field="repository.full_name",
            clone_url_field="repository.clone_url",
            pusher_field="pusher.name",
            refused_headers={"x-hub-signature": "it is SHA-1, which can be forged"},
        ),
        Dialect(
            forge=Forge.GITLAB,
            proof=Proof.TOKEN,
            proof_headers=("x-gitlab-token",),
            event_headers=("x-gitlab-event",),
            delivery_headers=("idempotency-key", "x-gitlab-event-uuid"),
            push_event="Push Hook",
            ping_event=None,
            name_field="project.path_with_namespace",
            clone_url_field="project.git_http_url",
            pusher_field="user_username",
            refused_headers={},
        ),
        Dialect(
            forge=Forge.GITEA,
            proof=Proof.BARE_HMAC,
            proof_headers=("x-forgejo-signature", "x-gitea-signature"),
            event_headers=("x-forgejo-event", "x-gitea-event"),
            delivery_headers=("x-forgejo-delivery", "x-gitea-delivery"),
            push_event="push",
            ping_event=None,
            name_field="repository.full_name",
            clone_url_field="repository.clone_url",
            pusher_field="pusher.login",
            refused_headers={},
        ),
    )
}


class SignatureError(Exception):
    """The sender did not prove that it knows the secret."""


class MalformedError(Exception):
    """The body is not JSON, or not an object."""


class FieldError(Exception):
    """A field of the body is missing or is not what it must be; the message names it."""


@dataclass(frozen=True, slots=True)
class Ping:
    """The forge asks whether anybody is there."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that changes nothing here, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Push:
    """A branch has a new head."""

    payload: SourcePushed
    event_id: UUID
    run_id: UUID


Meaning: TypeAlias = Ping | Ignored | Push


def check_signature(dialect: Dialect, secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Compare the sender's proof with ours in constant time.

    Args:
        dialect: of the forge whose route was called.
        secret: shared with the forge; not empty.
        headers: with lower-case names.
        body: exactly the bytes that were received.

    Raises:
        SignatureError: no proof, a refused kind of proof, or a wrong one.
    """
    found = _first(headers, dialect.proof_headers)
    wanted = " or ".join(dialect.proof_headers)
    if found is None:
        for header, why in dialect.refused_headers.items():
            if header in headers:
                raise SignatureError(f"{header} is refused: {why}; send {wanted}: {dialect.proof}")
        raise SignatureError(f"header {wanted} is missing; set the webhook's secret at the forge to the one set here")
    expected = secret
    if dialect.proof is not Proof.TOKEN:
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        expected = f"sha256={expected}" if dialect.proof is Proof.PREFIXED_HMAC else expected
    if not hmac.compare_digest(found.encode(), expected.encode()):
        raise SignatureError(
            f"{wanted} does not match; allowed is {dialect.proof}; "
            "set the webhook's secret at the forge to the one set here"
        )


def read_webhook(dialect: Dialect, headers: Mapping[str, str], body: bytes) -> Meaning:
    """Return what a delivery with a checked signature means.

    Raises:
        MalformedError: the body is not a JSON object.
        FieldError: a field of a push is missing or wrong.
    """
    event = _first(headers, dialect.event_headers)
    if event is None:
        raise FieldError(f"header {' or '.join(dialect.event_headers)} is missing: it names the event")
    if event == dialect.ping_event:
        return Ping()
    if event != dialect.push_event:
        return Ignored(f"event {event[:80]!r} starts no pipeline; only {dialect.push_event!r} does")
    return _read_push(dialect, delivery_of(dialect, headers, body), _parse(body))


def delivery_of(dialect: Dialect, headers: Mapping[str, str], body: bytes) -> str:
    """Return the forge's id of this delivery, which a redelivery repeats; else the SHA-256 of the body."""
    return _first(headers, dialect.delivery_headers) or hashlib.sha256(body).hexdigest()


def project_of(full_name: str) -> str:
    """Return the project slug of a repository's full name; case does not count, as on the forges.

    ``owner/name`` whose owner has no hyphen and whose name needs no replacement becomes ``owner-name``: the first
    hyphen was the slash, so no two such names meet. Any other name, after its dots, slashes and the rest have become
    hyphens, gets eight hex digits of its SHA-256, and so does a clean name that ends as if it had them.
    """
    name = full_name.casefold()
    plain = name.replace("/", "-")
    if _CLEAN_NAME.fullmatch(name) and len(plain) <= SLUG_LENGTH and not _LOOKS_SUFFIXED.fullmatch(plain):
        return plain
    readable = re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "project"
    suffix = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:SUFFIX_LENGTH]
    return f"{readable[: SLUG_LENGTH - SUFFIX_LENGTH - 1].rstrip('-')}-{suffix}"


def _read_push(dialect: Dialect, delivery: str, body: Mapping[str, Any]) -> Meaning:
    ref, commit = _text(body, "ref"), _text(body, "after")
    if not ref.startswith(_BRANCH):
        return Ignored(f"{ref[:200]} is not a branch; only refs/heads/… starts a pipeline")
    if not _OBJECT_ID.fullmatch(commit):
        raise FieldError(f"after is {commit[:80]!r}; it must be a full git object id of 40 or 64 lower-case hex digits")
    if not commit.strip("0"):
        return Ignored(f"{ref[:200]} was deleted")
    clone_url = _text(body, dialect.clone_url_field)
    if not _CLONE_URL.fullmatch(clone_url):
        raise FieldError(
            f"{dialect.clone_url_field} is {clone_url[:200]!r}; it must be an https, http, ssh or file URL"
        )
    payload = SourcePushed(
        project=project_of(_text(body, dialect.name_field)),
        repository=clone_url,
        ref=ref,
        commit=commit,
        forge=dialect.forge,
        delivery=delivery,
        pusher=_optional_text(body, dialect.pusher_field),
    )
    event_id = derived_id(dialect.forge, delivery)
    return Push(payload, event_id=event_id, run_id=derived_id("run", event_id))


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError(
            f"the body is not JSON: {error}; set the webhook's content type to application/json"
        ) from error
    if not isinstance(parsed, dict):
        raise MalformedError(f"the body is a JSON {type(parsed).__name__}; it must be an object")
    return parsed


def _lookup(body: Mapping[str, Any], field: str) -> object:
    value: object = body
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(body: Mapping[str, Any], field: str) -> str:
    value = _lookup(body, field)
    if value is None:
        raise FieldError(f"{field} is missing; it must be a non-empty string")
    if not isinstance(value, str) or not value.strip():
        raise FieldError(f"{field} is {json.dumps(value)[:80]}; it must be a non-empty string")
    return value


def _optional_text(body: Mapping[str, Any], field: str) -> str:
    value = _lookup(body, field)
    return value if isinstance(value, str) else ""


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if headers.get(name)), None)
