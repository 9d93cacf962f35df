"""Compares an MCUboot image with what a document says of it."""

from collections.abc import Mapping, Sequence

from shared.artifacts.evidence import RefusedError, require
from shared.artifacts.keys import PublicKey, signer_of
from shared.emulation.mcuboot_image import ImageFormatError, read_image


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
