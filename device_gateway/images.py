"""What a gateway and a bootloader check of an MCUboot image before they trust it.

Source: MCUboot, docs/design.md, "Image format"; the hash covers header, payload and protected TLVs, the Ed25519
signature covers the hash.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shared.boards import Board

_MAGIC = 0x96F3B83D
_TLV_MAGIC, _PROTECTED_TLV_MAGIC = 0x6907, 0x6908
_TLV_KEY_HASH, _TLV_SHA256, _TLV_ED25519 = 0x01, 0x10, 0x24
TLV_MODEL_DIGEST = 0xA0
"""Vendor TLV: SHA-256 of the int8 model that the firmware carries. Factory firmware has none."""


class ImageError(ValueError):
    """Bytes that are no MCUboot image, or one that must not run on the board."""


@dataclass(frozen=True, slots=True)
class McubootImage:
    """A parsed image.

    Attributes:
        image_hash: What MCUboot and SMP call the image: its SHA256 TLV, hex.
        version: As in a release: ``major.minor.revision+build``, without a build that is 0.
        length_bytes: From the header to the last TLV; what follows in a slot is not part of it.
        model_digest: SHA-256 of the model it carries, or none: the firmware runs no model.
    """

    image_hash: str
    version: str
    header_bytes: int
    length_bytes: int
    model_digest: bytes | None
    vectors: tuple[int, int]
    """Initial stack pointer and reset handler."""
    signed_bytes: int
    signature: bytes | None

    @property
    def has_model(self) -> bool:
        """Whether the firmware runs a model."""
        return self.model_digest is not None


def read_image(data: bytes) -> McubootImage:
    """Parse the image at the start of `data` without judging its hash or signature.

    Raises:
        ImageError: there is no whole MCUboot image.
    """
    if len(data) < 32:
        raise ImageError(f"{len(data)} bytes are too few for an MCUboot header")
    magic, _, header_bytes, protected_bytes, payload_bytes, _, major, minor, revision, build = struct.unpack_from(
        "<IIHHIIBBHI", data
    )
    if magic != _MAGIC:
        raise ImageError(f"no MCUboot image: the magic is {magic:#010x}, it must be {_MAGIC:#010x}")
    protected_at = header_bytes + payload_bytes
    signed_bytes = protected_at + protected_bytes
    tlvs: dict[int, bytes] = {}
    if protected_bytes:
        _read_tlvs(data, protected_at, _PROTECTED_TLV_MAGIC, tlvs)
    length_bytes = _read_tlvs(data, signed_bytes, _TLV_MAGIC, tlvs)
    if len(tlvs.get(_TLV_SHA256, b"")) != 32:
        raise ImageError("the image has no SHA256 TLV; sign it with imgtool")
    if payload_bytes < 8:
        raise ImageError(f"a payload of {payload_bytes} bytes holds no vector table")
    return McubootImage(
        image_hash=tlvs[_TLV_SHA256].hex(),
        version=f"{major}.{minor}.{revision}" + (f"+{build}" if build else ""),
        header_bytes=header_bytes,
        length_bytes=length_bytes,
        model_digest=tlvs.get(TLV_MODEL_DIGEST),
        vectors=struct.unpack_from("<II", data, header_bytes),
        signed_bytes=signed_bytes,
        signature=tlvs.get(_TLV_ED25519),
    )


def _read_tlvs(data: bytes, offset: int, magic: int, into: dict[int, bytes]) -> int:
    """Collect the TLVs of one area and return where it ends."""
    if len(data) < offset + 4:
        raise ImageError(f"the image ends at {len(data)} bytes, before its TLVs at {offset}: it is truncated")
    found, total = struct.unpack_from("<HH", data, offset)
    end: int = offset + total
    if found != magic or len(data) < end:
        raise ImageError(f"the TLVs at {offset} are damaged or cut off")
    position = offset + 4
    while position < end:
        if end < position + 4:
            raise ImageError(f"the TLV at {position} is cut off")
        kind, length = struct.unpack_from("<HH", data, position)
        position += 4
        if end < position + length:
            raise ImageError(f"TLV {kind:#x} leaves its area")
        into[kind] = data[position : position + length]
        position += length
    return end


def verify_image(data: bytes, keys: Sequence[Ed25519PublicKey]) -> McubootImage:
    """Parse the image and check its hash, and its signature against any of `keys`.

    Raises:
        ImageError: it is no image, was altered, or no key that is trusted here signed it.
    """
    image = read_image(data)
    digest = hashlib.sha256(data[: image.signed_bytes]).digest()
    if digest.hex() != image.image_hash:
        raise ImageError(
            f"the content's hash is {digest.hex()[:12]}, the image says {image.image_hash[:12]}: it was altered"
        )
    if image.signature is None:
        raise ImageError("the image is not signed; sign it with the release key")
    for key in keys:
        try:
            key.verify(image.signature, digest)
        except InvalidSignature:
            continue
        return image
    raise ImageError("no trusted key signed the image; sign it with the release key, or add its public key")


def check_fit(image: McubootImage, board: Board) -> None:
    """Check that the image was linked for `board`: size, stack and reset vector lie in its memory map.

    Raises:
        ImageError: it would not run there.
    """
    if image.length_bytes > board.flash_bytes:
        raise ImageError(
            f"the image takes {image.length_bytes} bytes, the slot of {board.name} has {board.flash_bytes}"
        )
    stack, reset = image.vectors
    ram_end = board.ram_address + board.ram_bytes
    if not board.ram_address < stack <= ram_end:
        raise ImageError(
            f"the initial stack pointer {stack:#x} is outside the RAM of {board.name} "
            f"({board.ram_address:#x} to {ram_end:#x}): the image is for another board"
        )
    code_start = board.slot_address + image.header_bytes
    code_end = board.slot_address + image.signed_bytes
    if not code_start <= reset < code_end or not reset & 1:
        raise ImageError(
            f"the reset vector {reset:#x} is outside the image on {board.name} "
            f"({code_start:#x} to {code_end:#x}): the image is for another board"
        )


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key in PEM.

    Raises:
        ImageError: the file holds something else; the message says how to make one.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{path}: no readable public key ({error}); write it with `openssl pkey -in signing.pem -pubout`"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ImageError(f"{path}: a {type(key).__name__}; images are signed with Ed25519 keys only")
    return key
