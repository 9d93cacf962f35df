"""Who signs: a private key in a PEM file, or one that never leaves a PKCS#11 token. Ed25519, or ECDSA on P-256."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.artifact_builder.key_uri import NEXT, PKCS11_SCHEME, SignerError
from shared.artifacts.keys import PublicKey, PublicKeyError, public_key_of


class Signer(Protocol):
    """A private key that can be used, and perhaps not be read."""

    @property
    def public_key(self) -> PublicKey:
        """The half that boards and `edgeloop artifact verify` know."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature: Ed25519 of the message, or ECDSA of its SHA-256 in DER.

        Raises:
            SignerError: the token does not answer.
        """


@dataclass(frozen=True)
class FileSigner:
    """A private key from a file. Equal messages give equal signatures: ECDSA takes its nonce from RFC 6979."""

    public_key: PublicKey
    sign: Callable[[bytes], bytes] = field(repr=False)


def signer_for(key: Path | str) -> Signer:
    """Return the signer that a setting names: a PEM file, or a ``pkcs11:`` URI (RFC 7512).

    Raises:
        SignerError: there is no such key, or it is of another kind.
    """
    if str(key).startswith(PKCS11_SCHEME):
        from services.artifact_builder.tokens import open_token_signer  # noqa: PLC0415 - an optional dependency

        return open_token_signer(str(key))
    return _file_signer(Path(key))


def _file_signer(path: Path) -> FileSigner:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SignerError(f"signing key {path} cannot be read: {error.strerror}. {NEXT}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the parser says could quote the file.
        raise SignerError(f"signing key {path} is no private key in PEM without a password. {NEXT}") from None
    try:
        public = public_key_of(private.public_key(), f"signing key {path}")
    except PublicKeyError as error:
        raise SignerError(f"{error}. {NEXT}") from error
    if isinstance(private, Ed25519PrivateKey):
        return FileSigner(public, private.sign)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return FileSigner(public, lambda message: private.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
