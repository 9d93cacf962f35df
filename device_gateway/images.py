"""What a gateway and a bootloader check of an MCUboot image before they trust it."""

import struct
from collections.abc import Sequence

from shared.artifacts.keys import PublicKey, signer_of
from shared.boards import ImageBoard
from shared.emulation.mcuboot_image import ImageFormatError, McubootImage, read_image


class ImageError(ValueError):
    """Bytes that are no MCUboot image, or one that must not run on the board."""


def verify_image(data: bytes, keys: Sequence[PublicKey]) -> McubootImage:
    """Parse the image, check its hash, and its signature against any of `keys`.

    Raises:
        ImageError: it is no image, was altered, or no key that is trusted here signed it.
    """
    image = parse_image(data)
    if image.signature is None:
        raise ImageError("the image is not signed; sign it with the release key")
    if signer_of(image, keys):
        return image
    raise ImageError("no trusted key signed the image; sign it with the release key, or add its public key")


def parse_image(data: bytes) -> McubootImage:
    """Parse the image and check its hash, but not who signed it.

    Raises:
        ImageError: it is no image, or was altered.
    """
    try:
        image = read_image(data)
    except ImageFormatError as error:
        raise ImageError(str(error)) from error
    if len(image.payload) < 8:
        raise ImageError(f"a payload of {len(image.payload)} bytes holds no vector table")
    return image


def check_fit(image: McubootImage, board: ImageBoard) -> None:
    """Check that the image is for `board`: it says so, and its size, stack and reset vector lie in its memory map.

    Boards share memory maps, but cores do not share instructions. Foreign firmware does not say what it is for.

    Raises:
        ImageError: it would not run there.
    """
    if image.board not in {None, board.name}:
        raise ImageError(f"the image is for another board: it says {image.board}, this one is a {board.name}")
    if image.size_bytes > board.slot_bytes:
        raise ImageError(f"the image takes {image.size_bytes} bytes, the slot of {board.name} has {board.slot_bytes}")
    stack, reset = struct.unpack_from("<II", image.payload)
    ram_end = board.ram_address + board.ram_bytes
    if not board.ram_address < stack <= ram_end:
        raise ImageError(
            f"the initial stack pointer {stack:#x} is outside the RAM of {board.name} "
            f"({board.ram_address:#x} to {ram_end:#x}): the image is for another board"
        )
    code_start = board.slot_address + image.header_bytes
    code_end = code_start + len(image.payload)
    if not code_start <= reset < code_end or not reset & 1:
        raise ImageError(
            f"the reset vector {reset:#x} is outside the image on {board.name} "
            f"({code_start:#x} to {code_end:#x}): the image is for another board"
        )
