"""Wraps firmware as a signed MCUboot image: imgtool's format, Ed25519, the same bytes for the same input."""

import contextlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import click
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

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


def generate_key(path_private: Path, path_public: Path) -> None:
    """Make an Ed25519 key pair as PEM files; the private one is readable by its owner only."""
    key = imgtool_keys.Ed25519.generate()
    path_private.touch(mode=0o600)
    path_private.chmod(0o600)
    key.export_private(str(path_private))
    key.export_public(str(path_public))


def sign_image(binary: bytes, board: ImageBoard, *, version: str, model_digest: str, key: Path) -> SignedImage:
    """Put header, vendor TLVs, hash and signature around a firmware.

    Args:
        binary: what `compile_firmware` returned.
        board: gives the slot's size; its name becomes the vendor TLV 0xA1, covered by the signature.
        version: ``major.minor.revision+build``.
        model_digest: ``sha256:<hex>`` of the int8 .tflite; it becomes the vendor TLV 0xA0, likewise.
        key: the private key's PEM file.

    Raises:
        SigningError: what is wrong with the key, the version or the size.
    """
    try:
        private_key = imgtool_keys.load(str(key))
    except (OSError, ValueError) as error:
        raise SigningError(
            f"{key} is no signing key ({error}); generate one, or point EDGELOOP_SIGNING_KEY at one"
        ) from error
    if not isinstance(private_key, imgtool_keys.Ed25519):
        raise SigningError(f"{key} holds no Ed25519 private key; generate one, or point EDGELOOP_SIGNING_KEY at one")
    try:
        image = imgtool_image.Image(
            version=decode_version(version),
            header_size=HEADER_BYTES,
            pad_header=True,
            align=_ALIGNMENT_BYTES,
            slot_size=board.slot_bytes,
            max_sectors=_SECTORS,
        )
        image.payload = bytes(HEADER_BYTES) + binary
        image.image_size = len(binary)
        # imgtool says on stdout what it signs.
        with contextlib.redirect_stdout(io.StringIO()):
            image.create(
                private_key,
                "hash",
                None,
                custom_tlvs={
                    MODEL_DIGEST_TLV: bytes.fromhex(model_digest.removeprefix("sha256:")),
                    BOARD_TLV: board.name.encode("ascii"),
                },
            )
    except (click.UsageError, ValueError, struct.error) as error:
        raise SigningError(f"no image for {board.name}, version {version!r}: {error}") from error
    data = bytes(image.payload)
    return SignedImage(data=data, image_hash=read_image(data).image_hash)
