"""Compares an MCUboot image with what a document says of it, and with the ELF file that it was made of."""

from collections.abc import Mapping, Sequence
from typing import Final

from shared.artifacts.evidence import RefusedError, require
from shared.artifacts.keys import PublicKey, signer_of
from shared.boards import UnknownBoardError, image_board
from shared.emulation.elf import ElfFormatError, flash_image, loaded
from shared.emulation.mcuboot_image import ImageFormatError, read_image

_VECTORS_BYTES: Final = 8
"""Of the first stack pointer and the reset handler, all that a Cortex-M needs to start."""


def check_image(
    data: bytes, board: str, said: Mapping[str, object], trusted: Sequence[PublicKey], *, document: str
) -> None:
    """Refuse an image that is not what a document says, or that nobody trusted signed.

    Args:
        data: the image.
        board: whose image it must be.
        said: what the document says, by the names of `McubootImage`'s attributes.
        trusted: keys that may sign.
        document: its name in messages.

    Raises:
        RefusedError: names the board, what the image has, and what the document says.
    """
    try:
        image = read_image(data)
    except ImageFormatError as error:
        raise RefusedError(f"{board}: {error}", "a whole MCUboot image") from error
    for what, wanted in {"board": board, **said}.items():
        found = getattr(image, what)
        require(found == wanted, f"{board}: {what} of the image is {found}, {document} says {wanted}", "the same")
    trust = ", ".join(key.key_id for key in trusted)
    require(signer_of(image, trusted) is not None, f"{board}: no trusted key signed the image", f"one of {trust}")


def check_elf(elf: bytes, image: bytes, board: str, *, name: str) -> None:
    """Refuse an ELF file that loads anything but the image's payload.

    Where the bootloader would be it may have a copy of the first two vectors: with these an emulator starts it.

    Args:
        elf: the file.
        image: the image, which is signed.
        board: whose memory map the image is for.
        name: the file's name in messages.

    Raises:
        RefusedError: names the board, the file, and the first address where the two differ.
    """
    place = f"{board}: {name}"
    try:
        parsed = read_image(image)
        address = image_board(board).slot_address + parsed.header_bytes
        flashed = flash_image(elf, address, len(parsed.payload))
        before = [part for part in loaded(elf) if part.address < address]
    except (ImageFormatError, ElfFormatError, UnknownBoardError) as error:
        raise RefusedError(f"{place}: {error}", "the ELF file that the image was made of") from error
    place += " is not what the image was made of"
    allowed = f"the image's payload from {address:#010x} on, and before it nothing but its first two vectors"
    sizes = f"it loads {len(flashed):,} bytes from {address:#010x} on, the image has {len(parsed.payload):,}"
    require(len(flashed) == len(parsed.payload), f"{place}: {sizes}", allowed)
    differing = (at for at, (one, other) in enumerate(zip(flashed, parsed.payload, strict=True)) if one != other)
    if (at := next(differing, None)) is not None:
        bytes_ = f"it loads {flashed[at]:02x}, the image has {parsed.payload[at]:02x}"
        raise RefusedError(f"{place}: at {address + at:#010x} {bytes_}", allowed)
    for part in before:
        what = f"{place}: at {part.address:#010x} it loads {len(part.data):,} bytes that are not the image's vectors"
        require(part.data[: address - part.address] == parsed.payload[:_VECTORS_BYTES], what, allowed)
