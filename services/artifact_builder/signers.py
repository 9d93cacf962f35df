"""Who signs: a private key in a PEM file, or one that never leaves a PKCS#11 token. Ed25519, or ECDSA on P-256."""

from pathlib import Path
from typing import Protocol

from services.artifact_builder.key_uri import NEXT, PKCS11_SCHEME, SignerError
from shared.artifacts.keys import PublicKey
from shared.artifacts.signing_keys import SigningKeyError, signer_in


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


def signer_for(key: Path | str) -> Signer:
    """Return the signer that a setting names: a PEM file, or a ``pkcs11:`` URI (RFC 7512).

    Raises:
        SignerError: there is no such key, or it is of another kind.
    """
    if str(key).startswith(PKCS11_SCHEME):
        from services.artifact_builder.tokens import open_token_signer  # noqa: PLC0415 - an optional dependency

        return open_token_signer(str(key))
    try:
        return signer_in(Path(key))
    except SigningKeyError as error:
        raise SignerError(f"{error}. {NEXT}") from error
