"""The process that speaks to a PKCS#11 token: ``python -m services.artifact_builder.token_process``.

A vendor's module is native code that brings libraries of its own, and in a process full of other native code one of
the two can crash the other. So each request has a process: the public half of a key, or one signature.

Sources: RFC 7512 (the URI), PKCS#11 3.0 (the mechanisms CKM_ECDSA and CKM_EDDSA). A token chooses the nonce of ECDSA
itself: two signatures of one message differ, and so do the digests of two builds. Ed25519 has no nonce.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.exceptions import (
    MultipleObjectsReturned,
    MultipleTokensReturned,
    NoSuchKey,
    NoSuchToken,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
)
from pkcs11.util.ec import encode_ec_public_key

from services.artifact_builder.key_uri import NEXT, KeyUri, SignerError, parse_key_uri
from shared.artifacts.keys import KeyAlgorithm, PublicKeyError, public_key_of

_PIN_ERRORS: Final = (PinIncorrect, PinInvalid, PinLenRange, PinLocked)


def main() -> int:
    """Answer the request on stdin, one JSON object, with another on stdout."""
    request = json.load(sys.stdin)
    try:
        with _session(parse_key_uri(request["uri"])) as session:
            answer = _signature(session, request) if "message" in request else _public_half(session, request)
    except SignerError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
    return 0


def _signature(session: pkcs11.Session, request: Mapping[str, str]) -> dict[str, str]:
    message = bytes.fromhex(request["message"])
    key = _only(session, parse_key_uri(request["uri"]), pkcs11.ObjectClass.PRIVATE_KEY)
    assert isinstance(key, pkcs11.SignMixin)
    if request["algorithm"] == KeyAlgorithm.ED25519:
        return {"signature": bytes(key.sign(message, mechanism=pkcs11.Mechanism.EDDSA)).hex()}
    raw = bytes(key.sign(hashlib.sha256(message).digest(), mechanism=pkcs11.Mechanism.ECDSA))
    half = len(raw) // 2
    return {"signature": encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:])).hex()}


def _public_half(session: pkcs11.Session, request: Mapping[str, str]) -> dict[str, str]:
    uri = parse_key_uri(request["uri"])
    _only(session, uri, pkcs11.ObjectClass.PRIVATE_KEY)
    try:
        public = public_key_of(_raw_public(_only(session, uri, pkcs11.ObjectClass.PUBLIC_KEY)), uri.described)
    except (PublicKeyError, ValueError) as error:
        raise SignerError(f"{uri.described}: {error}. {NEXT}") from error
    return {"public": public.der.hex()}


def _raw_public(key: pkcs11.Object) -> object:
    assert isinstance(key, pkcs11.PublicKey)
    if key.key_type == pkcs11.KeyType.EC_EDWARDS:
        # Some tokens wrap the point in an OCTET STRING, of two bytes.
        return Ed25519PublicKey.from_public_bytes(bytes(key[pkcs11.Attribute.EC_POINT])[-32:])
    if key.key_type == pkcs11.KeyType.EC:
        raw = load_der_public_key(encode_ec_public_key(key))
        assert isinstance(raw, ec.EllipticCurvePublicKey)
        return raw
    return key


@contextmanager
def _session(uri: KeyUri) -> Iterator[pkcs11.Session]:
    try:
        library = pkcs11.lib(uri.module)
    except (RuntimeError, PKCS11Error) as error:
        raise SignerError(
            f"PKCS#11 module {uri.module} cannot be loaded: {error}. Next: install it, or name another with module-path"
        ) from error
    pin = _pin(uri)
    try:
        token = library.get_token(token_label=uri.token, token_serial=uri.serial)
        with token.open(user_pin=pin) as session:
            yield session
    except (NoSuchToken, MultipleTokensReturned) as error:
        there = ", ".join(sorted({token.label for slot in library.get_slots(True) for token in [slot.get_token()]}))
        raise SignerError(
            f"{uri.described}: not exactly one such token; there are {there or 'none'}. {NEXT}"
        ) from error
    except _PIN_ERRORS as error:
        raise SignerError(
            f"{uri.described}: the token refuses the PIN ({type(error).__name__}). Next: correct the file that "
            "pin-source names"
        ) from None
    except PKCS11Error as error:
        raise SignerError(f"{uri.described}: the token says {type(error).__name__} {error}".rstrip()) from error


def _pin(uri: KeyUri) -> str | None:
    if uri.pin_source is None:
        return None
    try:
        return uri.pin_source.read_text("utf-8").strip()
    except OSError as error:
        raise SignerError(
            f"{uri.described}: pin-source {uri.pin_source} cannot be read: {error.strerror}. "
            "Next: write the PIN there, readable by the builder alone"
        ) from error


def _only(session: pkcs11.Session, uri: KeyUri, kind: pkcs11.ObjectClass) -> pkcs11.Object:
    try:
        return session.get_key(object_class=kind, label=uri.label, id=uri.key_id)
    except (NoSuchKey, MultipleObjectsReturned) as error:
        what = kind.name.lower().replace("_", " ")
        raise SignerError(
            f"{uri.described}: not exactly one {what} of that name. Next: keep both halves under one label, or add id"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
