"""The public halves of signing keys: Ed25519 and ECDSA on P-256, the two that MCUboot and imgtool share."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from shared.emulation.mcuboot_image import McubootImage, TlvType


class KeyAlgorithm(StrEnum):
    """How a key signs."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


class PublicKeyError(ValueError):
    """No usable public key; the message says what was found, and how to write one."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that signatures are checked with."""

    raw: Ed25519PublicKey | ec.EllipticCurvePublicKey

    @property
    def algorithm(self) -> KeyAlgorithm:
        """Which of the two it is."""
        return KeyAlgorithm.ED25519 if isinstance(self.raw, Ed25519PublicKey) else KeyAlgorithm.ECDSA_P256

    @property
    def der(self) -> bytes:
        """The key as SubjectPublicKeyInfo."""
        return self.raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def pem(self) -> bytes:
        """The key as people keep it in files."""
        return self.raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        """SHA-256 of `der`, hex: MCUboot's KEYHASH, and the keyid of a DSSE envelope."""
        return hashlib.sha256(self.der).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether this key signed `message`. ECDSA signs its SHA-256, and writes DER."""
        try:
            if isinstance(self.raw, Ed25519PublicKey):
                self.raw.verify(signature, message)
            else:
                self.raw.verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def verifies_image(self, image: McubootImage) -> bool:
        """Return whether this key signed the image.

        Source: MCUboot, bootutil/src/image_ed25519.c and image_ecdsa.c. Ed25519 takes the image's hash for the message;
        ECDSA takes it for the message's hash.
        """
        digest = bytes.fromhex(image.image_hash)
        if isinstance(self.raw, Ed25519PublicKey):
            signature = image.tlvs.get(TlvType.ED25519)
            return signature is not None and self.verifies(signature, digest)
        signature = image.tlvs.get(TlvType.ECDSA)
        try:
            self.raw.verify(signature or b"", digest, ec.ECDSA(Prehashed(SHA256())))
        except InvalidSignature:
            return False
        return True


def signer_of(image: McubootImage, keys: Sequence[PublicKey]) -> PublicKey | None:
    """Return which of `keys` signed the image, if one did."""
    return next((key for key in keys if key.verifies_image(image)), None)


def public_key_of(raw: object, where: str) -> PublicKey:
    """Wrap a key of the cryptography package.

    Raises:
        PublicKeyError: it is neither Ed25519 nor ECDSA on P-256; the message begins with `where`.
    """
    if isinstance(raw, Ed25519PublicKey):
        return PublicKey(raw)
    if isinstance(raw, ec.EllipticCurvePublicKey) and isinstance(raw.curve, ec.SECP256R1):
        return PublicKey(raw)
    found = f"an ECDSA key on {raw.curve.name}" if isinstance(raw, ec.EllipticCurvePublicKey) else type(raw).__name__
    raise PublicKeyError(f"{where}: {found}; allowed are Ed25519, and ECDSA on P-256")


def load_public_key(path: Path) -> PublicKey:
    """Read a public key in PEM.

    Raises:
        PublicKeyError: the file holds something else; the message says how to make one.
    """
    try:
        raw = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise PublicKeyError(
            f"{path}: no readable public key ({error}); write it with `openssl pkey -in signing.pem -pubout`"
        ) from error
    return public_key_of(raw, str(path))
