"""Makes small ELF files: what verification reads of them, without a compiler."""

import struct
from collections.abc import Sequence

from shared.boards import image_board
from shared.emulation.mcuboot_image import read_image

Part = tuple[int, bytes]
"""An address, and what is loaded there."""


def elf_of(parts: Sequence[Part]) -> bytes:
    """Return an executable for ARM that loads these parts."""
    end = 52 + 32 * len(parts)
    header = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 40, 1, 0, 52, 0, 0x5000400, 52, 32, len(parts), 40, 0, 0
    )
    headers, content = b"", b""
    for address, data in parts:
        headers += struct.pack("<8I", 1, end + len(content), address, address, len(data), len(data), 5, 1)
        content += data
    return header + headers + content


def elf_behind(image: bytes, board: str) -> bytes:
    """Return the ELF that the linker made of a signed image's payload: it begins with what stands in for MCUboot."""
    parsed, found = read_image(image), image_board(board)
    code = found.slot_address + parsed.header_bytes
    return elf_of([(found.emulation.reset_address, parsed.payload[:8]), (code, parsed.payload)])
