"""The little of ELF (System V ABI, 32 bits, little-endian) that turns linked firmware into bytes for flash."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"\x7fELF\x01\x01"  # 32 bits, little-endian
_PT_LOAD: Final = 1
_SHF_ALLOC: Final = 2
_HEADER_BYTES: Final = 52
_PROGRAM_HEADER: Final = struct.Struct("<8I")
_SECTION_HEADER: Final = struct.Struct("<10I")


class ElfFormatError(ValueError):
    """The bytes are no whole ELF file of a 32-bit little-endian core, or load what no firmware loads."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section that occupies memory."""

    name: str
    address: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Bytes of the file that belong at an address."""

    address: int
    """The physical one: of variables, where their first values lie in flash."""
    data: bytes


def loaded(elf: bytes) -> Iterator[Loaded]:
    """Yield what a loader, or an emulator, puts into memory, but for the file's own headers.

    Raises:
        ElfFormatError: says what was found where.
    """
    if not elf.startswith(_MAGIC) or len(elf) < _HEADER_BYTES:
        raise ElfFormatError(f"not an ELF file of 32 bits, little-endian: it begins with {elf[:6].hex() or 'nothing'}")
    start, size, count = struct.unpack_from("<I", elf, 28)[0], *struct.unpack_from("<HH", elf, 42)
    end = start + count * _PROGRAM_HEADER.size
    if end > len(elf) or (count and size != _PROGRAM_HEADER.size):
        raise ElfFormatError(f"{count} program headers of {size} bytes from byte {start} on, in {len(elf):,} bytes")
    for kind, offset, _, address, size, *_ in _PROGRAM_HEADER.iter_unpack(elf[start:end]):
        if kind != _PT_LOAD or size == 0:
            continue
        if offset + size > len(elf):
            raise ElfFormatError(f"what is loaded at {address:#010x} ends at byte {offset + size:,} of {len(elf):,}")
        # GNU ld may begin the first segment early, with the file's own headers.
        headers = min(end - offset, size) if offset == 0 else 0
        yield Loaded(address + headers, elf[offset + headers : offset + size])


def flash_image(elf: bytes, address: int, limit_bytes: int) -> bytes:
    """Return what is loaded from `address` on, gaps as 0xFF; what comes before is for emulators.

    Raises:
        ElfFormatError: it is no ELF file, or needs more than `limit_bytes`.
    """
    image = bytearray()
    for part in loaded(elf):
        data = part.data[max(address - part.address, 0) :]
        begin = max(part.address - address, 0)
        if not data:
            continue
        if begin + len(data) > limit_bytes:
            raise ElfFormatError(
                f"it loads {len(data):,} bytes at {address + begin:#010x}, beyond the {limit_bytes:,} bytes from "
                f"{address:#010x} on"
            )
        image.extend(b"\xff" * (begin + len(data) - len(image)))
        image[begin : begin + len(data)] = data
    return bytes(image)


def memory_sections(elf: bytes) -> list[Section]:
    """Return the sections that occupy flash or RAM at run time, of an ELF file that a linker just wrote."""
    start = struct.unpack_from("<I", elf, 32)[0]
    count, names_index = struct.unpack_from("<HH", elf, 48)
    headers = [_SECTION_HEADER.unpack_from(elf, start + i * _SECTION_HEADER.size) for i in range(count)]
    names = headers[names_index][4]
    return [
        Section(elf[names + name : elf.index(b"\0", names + name)].decode(), address, size)
        for name, _, flags, address, _, size, *_ in headers
        if flags & _SHF_ALLOC
    ]
