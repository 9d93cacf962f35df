"""The little of ELF that turns a linked firmware into bytes for flash, for either compiler."""

import struct
from dataclasses import dataclass

_PT_LOAD = 1
_SHF_ALLOC = 2
_PROGRAM_HEADER = struct.Struct("<8I")
_SECTION_HEADER = struct.Struct("<10I")


@dataclass(frozen=True, slots=True)
class Section:
    """One section that occupies memory."""

    name: str
    address: int
    size_bytes: int


def flash_image(elf: bytes, address: int) -> bytes:
    """Return what is loaded from `address` on, gaps as 0xFF; what comes before is for emulators."""
    start, count = struct.unpack_from("<I", elf, 28)[0], struct.unpack_from("<H", elf, 44)[0]
    image = bytearray()
    for i in range(count):
        kind, offset, _, physical, size, *_ = _PROGRAM_HEADER.unpack_from(elf, start + i * _PROGRAM_HEADER.size)
        if kind != _PT_LOAD or size == 0 or physical + size <= address:
            continue
        # GNU ld may begin the first segment early, with the file's own headers.
        skipped = min(max(address - physical, 0), size)
        begin, end = physical + skipped - address, physical + size - address
        image.extend(b"\xff" * (end - len(image)))
        image[begin:end] = elf[offset + skipped : offset + size]
    return bytes(image)


def memory_sections(elf: bytes) -> list[Section]:
    """Return the sections that occupy flash or RAM at run time."""
    start = struct.unpack_from("<I", elf, 32)[0]
    count, names_index = struct.unpack_from("<HH", elf, 48)
    headers = [_SECTION_HEADER.unpack_from(elf, start + i * _SECTION_HEADER.size) for i in range(count)]
    names = headers[names_index][4]
    return [
        Section(elf[names + name : elf.index(b"\0", names + name)].decode(), address, size)
        for name, _, flags, address, _, size, *_ in headers
        if flags & _SHF_ALLOC
    ]
