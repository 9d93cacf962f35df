"""DSSE: an envelope whose signature covers the payload's type and its bytes.

Source: Dead Simple Signing Envelope, protocol.md and envelope.md, version 1.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.artifacts.keys import PublicKey

STATEMENT_TYPE: Final = "application/vnd.in-toto+json"


class EnvelopeError(ValueError):
    """An envelope that cannot be read, or that nobody trusted has signed."""


class _Signature(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keyid: str
    sig: str


class Envelope(BaseModel):
    """A signed payload. Field names are the specification's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payloadType: str  # noqa: N815
    payload: str
    signatures: tuple[_Signature, ...] = Field(min_length=1)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def enveloped(payload: bytes, *, key_id: str, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the envelope of an in-toto statement, as JSON."""
    signature = sign(pre_authentication_encoding(STATEMENT_TYPE, payload))
    envelope = Envelope(
        payloadType=STATEMENT_TYPE,
        payload=base64.b64encode(payload).decode(),
        signatures=(_Signature(keyid=key_id, sig=base64.b64encode(signature).decode()),),
    )
    return envelope.model_dump_json().encode()


def opened(envelope: bytes, trusted: Sequence[PublicKey]) -> tuple[bytes, PublicKey]:
    """Return the statement, and the trusted key that signed it.

    Raises:
        EnvelopeError: it is no envelope of a statement, or no trusted key signed it; both are named.
    """
    payload, signatures = _parts(envelope)
    message = pre_authentication_encoding(STATEMENT_TYPE, payload)
    for key in trusted:
        if any(key.verifies(signature, message) for _, signature in signatures):
            return payload, key
    named = ", ".join(key_id for key_id, _ in signatures)
    trust = ", ".join(key.key_id for key in trusted) or "none"
    known = {key.key_id for key in trusted}
    if known.intersection(key_id for key_id, _ in signatures):
        raise EnvelopeError(f"the signature by key {named} does not fit what it should cover: one of them was altered")
    raise EnvelopeError(f"signed by key {named}; trusted are {trust}")


def unverified(envelope: bytes) -> bytes:
    """Return the statement, whoever signed it: for showing what is claimed, never for deciding by it.

    Raises:
        EnvelopeError: it is no envelope of a statement.
    """
    return _parts(envelope)[0]


def _parts(envelope: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return the statement, and its signatures with the ids of their keys."""
    try:
        read = Envelope.model_validate_json(envelope)
        payload = base64.b64decode(read.payload, validate=True)
        signatures = [(found.keyid, base64.b64decode(found.sig, validate=True)) for found in read.signatures]
    except (ValidationError, binascii.Error) as error:
        raise EnvelopeError(f"not a DSSE envelope: {error}") from error
    if read.payloadType != STATEMENT_TYPE:
        raise EnvelopeError(f"the envelope holds a {read.payloadType}; it must hold a {STATEMENT_TYPE}")
    return payload, signatures
