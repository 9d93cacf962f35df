"""Reads MCUboot images: header, payload and TLVs, as MCUboot's docs/design.md lays them out."""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

MODEL_DIGEST_TLV = 0x00A0
"""Vendor TLV, protected: the SHA-256 of the int8 .tflite that the firmware runs."""
BOARD_TLV = 0x00A1
"""Vendor TLV, protected: the catalogue name of the board that the firmware was compiled for, in ASCII."""

_MAGIC = 0x96F3B83D
_HEADER = struct.Struct("<IIHHIIBBHII")
_TLV_INFO = struct.Struct("<HH")
_PLAIN_MAGIC = 0x6907
_PROTECTED_MAGIC = 0x6908


class TlvType(IntEnum):
    """The TLVs that Edgeloop reads."""

    KEY_HASH = 0x01
    SHA256 = 0x10
    ECDSA = 0x22
    ED25519 = 0x24
    SECURITY_COUNTER = 0x50


class ImageFormatError(ValueError):
    """The bytes are not a whole MCUboot image."""


@dataclass(frozen=True, slots=True)
class McubootImage:
    """A parsed image whose hash is right. Its signature was not looked at."""

    version: str
    """``major.minor.revision+build``."""
    header_bytes: int
    payload: bytes
    """What follows the header: the vector table first."""
    image_hash: str
    """The SHA256 TLV, in hex."""
    tlvs: Mapping[int, bytes]
    """Hash and signature: what is behind the hashed part."""
    protected: Mapping[int, bytes]
    """What the hash, and so the signature, covers."""
    size_bytes: int
    """From the header to the last TLV; more may follow in a slot."""

    @property
    def model_digest(self) -> str | None:
        """``sha256:<hex>`` of the model, when the image says."""
        found = self.protected.get(MODEL_DIGEST_TLV)
        return None if found is None else f"sha256:{found.hex()}"

    @property
    def board(self) -> str | None:
        """The board that it was compiled for, when the image says."""
        found = self.protected.get(BOARD_TLV)
        return None if found is None else found.decode("ascii", errors="replace")

    @property
    def security_counter(self) -> int | None:
        """What MCUboot compares to refuse older images, when the image says."""
        found = self.protected.get(TlvType.SECURITY_COUNTER)
        return None if found is None else int.from_bytes(found, "little")

    @property
    def signature(self) -> bytes | None:
        """The signature, Ed25519 or ECDSA, when there is one."""
        return self.tlvs.get(TlvType.ED25519, self.tlvs.get(TlvType.ECDSA))


def read_image(data: bytes) -> McubootImage:
    """Parse an image and check its hash. Bytes after it, as in a flash slot, are ignored.

    Raises:
        ImageFormatError: says what was expected where, and what was found.
    """
    if len(data) < _HEADER.size:
        raise ImageFormatError(f"a MCUboot image begins with {_HEADER.size} bytes of header; there are {len(data)}")
    magic, _, header_bytes, protected_bytes, payload_bytes, _, major, minor, revision, build, _ = _HEADER.unpack_from(
        data
    )
    if magic != _MAGIC:
        raise ImageFormatError(f"not a MCUboot image: its magic should be {_MAGIC:#010x}, and is {magic:#010x}")
    if header_bytes < _HEADER.size:
        raise ImageFormatError(f"the header says it has {header_bytes} bytes, fewer than {_HEADER.size}")
    end = header_bytes + payload_bytes
    tlvs: dict[int, bytes] = {}
    protected: dict[int, bytes] = {}
    if protected_bytes:
        size = _area(data, end, _PROTECTED_MAGIC, protected)
        if size != protected_bytes:
            raise ImageFormatError(f"the protected TLVs have {size} bytes; the header says {protected_bytes}")
    hashed = end + protected_bytes
    total = hashed + _area(data, hashed, _PLAIN_MAGIC, tlvs)
    found = tlvs.get(TlvType.SHA256)
    computed = hashlib.sha256(data[:hashed]).digest()
    if found is None:
        raise ImageFormatError("the image has no SHA256 TLV; sign it with imgtool")
    if found != computed:
        raise ImageFormatError(f"the image is damaged: its hash is {computed.hex()}, its TLV says {found.hex()}")
    return McubootImage(
        version=f"{major}.{minor}.{revision}+{build}",
        header_bytes=header_bytes,
        payload=data[header_bytes:end],
        image_hash=found.hex(),
        tlvs=tlvs,
        protected=protected,
        size_bytes=total,
    )


def _area(data: bytes, start: int, magic: int, tlvs: dict[int, bytes]) -> int:
    """Add the TLVs of one area to `tlvs`, and return the area's size with its own header."""
    if start + _TLV_INFO.size > len(data):
        raise ImageFormatError(f"the image is cut off: its TLVs should begin at byte {start}; there are {len(data)}")
    found, size = _word_pair(data, start)
    if found != magic:
        raise ImageFormatError(f"the TLVs at byte {start} should begin with {magic:#06x}, not {found:#06x}")
    if start + size > len(data) or size < _TLV_INFO.size:
        raise ImageFormatError(
            f"the image is cut off: its TLVs should end at byte {start + size}; there are {len(data)}"
        )
    tlvs.update(_entries(data, start + _TLV_INFO.size, start + size))
    return size


def _entries(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at + _TLV_INFO.size <= end:
        kind, size = _word_pair(data, at)
        at += _TLV_INFO.size
        if at + size > end:
            raise ImageFormatError(f"the TLV {kind:#06x} at byte {at} reaches {at + size - end} bytes past its area")
        yield kind, data[at : at + size]
        at += size


def _word_pair(data: bytes, at: int) -> tuple[int, int]:
    first, second = _TLV_INFO.unpack_from(data, at)
    return int(first), int(second)
