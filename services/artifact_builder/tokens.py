"""Signs in a PKCS#11 token: a hardware security module, a smart card, or SoftHSM. The key never leaves it.

Sources: RFC 7512 (the URI), PKCS#11 3.0 (the mechanisms CKM_ECDSA and CKM_EDDSA). A token chooses the nonce of ECDSA
itself: two signatures of one message differ, and so do the digests of two builds. Ed25519 has no nonce.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from shared.artifacts.keys import KeyAlgorithm, PublicKey, PublicKeyError, public_key_of

_PIN_ERRORS: Final = (PinIncorrect, PinInvalid, PinLenRange, PinLocked)
_one_session = threading.Lock()
"""A process logs in to a token as one user, once."""


@dataclass(frozen=True)
class TokenSigner:
    """A private key in a token; each signature opens a session of its own, so that a token may come and go."""

    public_key: PublicKey
    uri: KeyUri = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature. Raises SignerError when the token does not give one."""
        with _session(self.uri) as session:
            key = _only(session, self.uri, pkcs11.ObjectClass.PRIVATE_KEY)
            assert isinstance(key, pkcs11.SignMixin)
            if self.public_key.algorithm is KeyAlgorithm.ED25519:
                return bytes(key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
            raw = bytes(key.sign(hashlib.sha256(message).digest(), mechanism=pkcs11.Mechanism.ECDSA))
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def open_token_signer(uri: str) -> TokenSigner:
    """Find the key that a URI names, and read its public half.

    Raises:
        SignerError: what is missing: module, token, PIN, key.
    """
    parsed = parse_key_uri(uri)
    with _session(parsed) as session:
        _only(session, parsed, pkcs11.ObjectClass.PRIVATE_KEY)
        public = _only(session, parsed, pkcs11.ObjectClass.PUBLIC_KEY)
        try:
            return TokenSigner(public_key_of(_raw_public(public), parsed.described), parsed)
        except (PublicKeyError, ValueError) as error:
            raise SignerError(f"{parsed.described}: {error}. {NEXT}") from error


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
    with _one_session:
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
