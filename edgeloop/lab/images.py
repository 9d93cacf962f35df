"""Firmware images for the lab: named by a release, by their own digest, or put into the object store from a file."""

from pathlib import Path

from pydantic import ValidationError

from edgeloop.artifacts import require_digest
from edgeloop.errors import UsageError
from shared.artifacts.oci import MediaType
from shared.emulation.mcuboot_image import ImageFormatError, read_image
from shared.releases.release import Release
from shared.store import BlobMissingError, Blobs, load_release


async def image_digest(blobs: Blobs, target: str, board: str) -> str:
    """Return the digest of a signed image in the object store, after it was put there if it is a file.

    Args:
        blobs: The object store.
        target: A file, or the digest of an image or of a release.
        board: Whose firmware of a release is meant, by its name in the catalogue.

    Raises:
        UsageError: there is no such file or object, it is no image, or the release has none for the board.
    """
    if not target.startswith("sha256:"):
        return (
            await blobs.put(read_image_file(Path(target)), media_type=MediaType.IMAGE, name=Path(target).name)
        ).digest
    data = await _stored(blobs, require_digest(target))
    if not data.startswith(b"{"):
        _require_image(data, target)
        return target
    release = await release_of(blobs, target)
    firmware = release.firmware_for(board)
    if firmware is None:
        have = ", ".join(each.board for each in release.firmware) or "no board"
        raise UsageError(
            f"release {target}: no firmware for {board}; it has some for {have}",
            next_step=f"add {board} to boards in edgeloop.yaml, or take another board",
        )
    return firmware.image.digest


async def release_of(blobs: Blobs, digest: str) -> Release:
    """Return a release by its digest.

    Raises:
        UsageError: there is none.
    """
    try:
        return await load_release(blobs, digest)
    except (BlobMissingError, ValidationError, ValueError) as error:
        raise UsageError(
            f"no release {digest}: {error}", next_step="`edgeloop artifact list` shows the digests of releases"
        ) from error


async def _stored(blobs: Blobs, digest: str) -> bytes:
    try:
        return await blobs.get(digest)
    except BlobMissingError as error:
        raise UsageError(str(error), next_step="`edgeloop artifact list` shows what was built") from error


def read_image_file(file: Path) -> bytes:
    """Return a signed image's bytes.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}; allowed is a signed image's file, or a digest (sha256: and 64 hex digits)",
            next_step="`edgeloop compile` writes images, `edgeloop artifact list` shows releases",
        ) from error
    _require_image(data, str(file))
    return data


def _require_image(data: bytes, where: str) -> None:
    try:
        read_image(data)
    except ImageFormatError as error:
        raise UsageError(
            f"{where}: not a signed MCUboot image: {error}",
            next_step="take the firmware.img that `edgeloop compile` writes",
        ) from error
