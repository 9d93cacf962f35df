"""Wraps firmware as a signed MCUboot image: imgtool's format, Ed25519 or ECDSA on P-256."""

import contextlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.signers import Signer, signer_for
from shared.artifacts.keys import KeyAlgorithm
from shared.boards import ImageBoard
from shared.emulation.mcuboot_image import BOARD_TLV, MODEL_DIGEST_TLV, read_image

HEADER_BYTES = 0x200
TRAILER_BYTES = 0x1000
"""End of the slot that firmware leaves free: signature, and MCUboot's swap status."""

_ALIGNMENT_BYTES = 4
_SECTORS = 128


class SigningError(ValueError):
    """The key, the version or the firmware cannot make an image."""


@dataclass(frozen=True, slots=True)
class SignedImage:
    """A MCUboot image."""

    data: bytes
    image_hash: str
    """MCUboot's SHA256 TLV, in hex: what a device reports of the image."""
    security_counter: int
    """What MCUboot compares to refuse older images."""


def generate_key(path_private: Path, path_public: Path, algorithm: KeyAlgorithm = KeyAlgorithm.ED25519) -> None:
    """Make a key pair as PEM files; the private one is readable by its owner only."""
    kinds = {KeyAlgorithm.ED25519: imgtool_keys.Ed25519, KeyAlgorithm.ECDSA_P256: imgtool_keys.ECDSA256P1}
    key = kinds[algorithm].generate()
    path_private.touch(mode=0o600)
    path_private.chmod(0o600)
    key.export_private(str(path_private))
    key.export_public(str(path_public))


def sign_image(
    binary: bytes,
    board: ImageBoard,
    *,
    version: str,
    model_digest: str,
    key: Path | str | Signer,
    security_counter: int | None = None,
) -> SignedImage:
    """Put header, vendor TLVs, hash and signature around a firmware.

    Args:
        binary: what `compile_firmware` returned.
        board: gives the slot's size; its name becomes the vendor TLV 0xA1, covered by the signature.
        version: ``major.minor.revision+build``.
        model_digest: ``sha256:<hex>`` of the int8 .tflite; it becomes the vendor TLV 0xA0, likewise.
        key: who signs, or the setting that names it: the private key's PEM file, or a pkcs11: URI.
        security_counter: by default ``major << 24 | minor << 16 | revision``, imgtool's "auto".

    Raises:
        SigningError: what is wrong with the key, the version or the size.
    """
    try:
        signer = signer_for(key) if isinstance(key, Path | str) else key
        image = imgtool_image.Image(
            version=decode_version(version),
            header_size=HEADER_BYTES,
            pad_header=True,
            align=_ALIGNMENT_BYTES,
            slot_size=board.slot_bytes,
            max_sectors=_SECTORS,
            security_counter="auto" if security_counter is None else security_counter,
        )
        image.payload = bytes(HEADER_BYTES) + binary
        image.image_size = len(binary)
        # imgtool says on stdout what it signs.
        with contextlib.redirect_stdout(io.StringIO()):
            image.create(
                _for_imgtool(signer),
                "hash",
                None,
                custom_tlvs={
                    MODEL_DIGEST_TLV: bytes.fromhex(model_digest.removeprefix("sha256:")),
                    BOARD_TLV: board.name.encode("ascii"),
                },
            )
    except SignerError as error:
        raise SigningError(str(error)) from error
    except (click.UsageError, ValueError, struct.error) as error:
        raise SigningError(f"no image for {board.name}, version {version!r}: {error}") from error
    data = bytes(image.payload)
    written = read_image(data)
    assert written.security_counter is not None
    return SignedImage(data, written.image_hash, written.security_counter)


def _for_imgtool(signer: Signer) -> Any:  # noqa: ANN401 - imgtool has no types
    """Return the public key as imgtool knows it, with the one method of a private key that imgtool looks for."""
    raw = signer.public_key.raw
    if signer.public_key.algorithm is KeyAlgorithm.ED25519:
        key = imgtool_keys.Ed25519Public(raw)
        key.sign_digest = signer.sign  # the image's hash
    else:
        key = imgtool_keys.ECDSA256P1Public(raw)
        key.sign = signer.sign  # the image itself
    return key
