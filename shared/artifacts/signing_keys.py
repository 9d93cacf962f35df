"""Private keys in PEM files. Ed25519, or ECDSA on P-256."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.artifacts.keys import PublicKey, PublicKeyError, public_key_of


class SigningKeyError(ValueError):
    """The file holds no usable key. The message names it, and never its content."""


@dataclass(frozen=True)
class FileSigner:
    """A private key from a file. Equal messages give equal signatures: ECDSA takes its nonce from RFC 6979."""

    public_key: PublicKey
    sign: Callable[[bytes], bytes] = field(repr=False)


def signer_in(path: Path) -> FileSigner:
    """Return the signer whose private key is in a PEM file without a password.

    Raises:
        SigningKeyError: there is no such key, or it is of another kind.
    """
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SigningKeyError(f"signing key {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the parser says could quote the file.
        raise SigningKeyError(f"signing key {path} is no private key in PEM without a password") from None
    try:
        public = public_key_of(private.public_key(), f"signing key {path}")
    except PublicKeyError as error:
        raise SigningKeyError(str(error)) from error
    if isinstance(private, Ed25519PrivateKey):
        return FileSigner(public, private.sign)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return FileSigner(public, lambda message: private.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
