"""MCUmgr's image group on the running board: list the slots, take an upload, mark for test, confirm.

The refusals and their codes are those of Zephyr's img_mgmt, `IMG_MGMT_ERR`.
"""

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from smp.image_management import IMG_MGMT_ERR, ImageState

from device_gateway.images import ImageError, parse_image
from device_gateway.virtual.bootloader import (
    SwapType,
    Verify,
    clear_trailer,
    read_trailer,
    set_image_ok,
    write_intent,
)
from device_gateway.virtual.flash import Area, Flash, sectors_for
from shared.emulation.mcuboot_image import McubootImage


class ImageRefusedError(Exception):
    """The image group refuses a request."""

    def __init__(self, rc: IMG_MGMT_ERR) -> None:
        super().__init__(rc.name)
        self.rc = rc


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way: which image, how long, how far. Kept in a file, as stream-flash progress is on a board."""

    sha: str
    length: int
    offset: int


class Slots:
    """The two image slots as the application sees them."""

    def __init__(self, flash: Flash, verify: Verify, progress: Path | None = None) -> None:
        """Args: progress: where an upload's progress survives a reset; none: it does not."""
        self._flash = flash
        self._verify = verify
        self._progress = progress
        self._upload = self._load_progress()

    def image_in(self, area: Area) -> McubootImage | None:
        """Return the whole image that a slot holds, whoever signed it."""
        try:
            return parse_image(self._flash.read(area))
        except ImageError:
            return None

    @property
    def is_trial(self) -> bool:
        """Whether the running image goes away at the next reset unless it is confirmed."""
        primary = read_trailer(self._flash, Area.TRAILER0)
        return primary.valid and not primary.image_ok

    @property
    def is_pending(self) -> bool:
        """Whether the second slot is marked for the next reset."""
        return read_trailer(self._flash, Area.TRAILER1).valid

    def states(self) -> list[ImageState]:
        """Return both slots with Zephyr's flags; a slot without an image is not listed."""
        flags: dict[Area, dict[str, bool]]
        if self.is_trial:
            flags = {Area.SLOT0: {"active": True}, Area.SLOT1: {"confirmed": True}}
        else:
            flags = {Area.SLOT0: {"active": True, "confirmed": True}, Area.SLOT1: {}}
            if self.is_pending:
                permanent = read_trailer(self._flash, Area.TRAILER1).swap_type is SwapType.PERMANENT
                flags[Area.SLOT1] = {"pending": True} | ({"permanent": True} if permanent else {})
        return [
            ImageState(
                slot=slot,
                version=image.version.removesuffix("+0").replace("+", "."),
                hash=bytes.fromhex(image.image_hash),
                bootable=True,
                **flags[area],
            )
            for slot, area in enumerate((Area.SLOT0, Area.SLOT1))
            if (image := self.image_in(area)) is not None
        ]

    def mark(self, image_hash: str, *, permanent: bool = False) -> None:
        """Order a swap to the image with `image_hash` at the next reset, for one run or for good.

        Raises:
            ImageRefusedError: it is not in the second slot, or a swap is already ordered or on trial.
        """
        active, second = self.image_in(Area.SLOT0), self.image_in(Area.SLOT1)
        if active is not None and active.image_hash == image_hash:
            if not permanent:
                raise ImageRefusedError(IMG_MGMT_ERR.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED)
            self.confirm()
            return
        if second is None or second.image_hash != image_hash:
            raise ImageRefusedError(IMG_MGMT_ERR.HASH_NOT_FOUND)
        if self.is_trial:
            raise ImageRefusedError(IMG_MGMT_ERR.IMAGE_ALREADY_PENDING)
        wanted = SwapType.PERMANENT if permanent else SwapType.TEST
        pending = read_trailer(self._flash, Area.TRAILER1)
        if not pending.valid or pending.swap_type is not wanted:
            write_intent(self._flash, Area.TRAILER1, wanted)

    def confirm(self) -> None:
        """Keep the running image. A no-op when it is confirmed already."""
        if self.is_trial:
            set_image_ok(self._flash)

    def upload(self, offset: int, data: bytes, *, length: int | None, sha: bytes | None) -> tuple[int, bool | None]:
        """Take a chunk; return the offset wanted next, and at the end whether the content's hash is `sha`.

        A chunk at another offset than the next is dropped and answered with the right one: so a lost answer, or a
        client that begins again with the same `sha`, resumes.

        Raises:
            ImageRefusedError: the slot is in use, or the image cannot be one for this board.
        """
        if self.is_trial or self.is_pending:
            raise ImageRefusedError(IMG_MGMT_ERR.IMAGE_ALREADY_PENDING)
        if offset == 0:
            upload, first = self._begin(data, length, sha)
            if not first:
                return upload.offset, None
        elif self._upload is None:
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_OFFSET)
        else:
            upload = self._upload
        if offset != upload.offset:
            return upload.offset, None
        if upload.length < offset + len(data):
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_IMAGE_DATA_OVERRUN)
        self._flash.write(Area.SLOT1, offset, data)
        self._keep_progress(Upload(upload.sha, upload.length, offset + len(data)))
        if offset + len(data) < upload.length:
            return offset + len(data), None
        self._keep_progress(None)
        return upload.length, self._matches(upload)

    def _matches(self, upload: Upload) -> bool | None:
        """Compare what was written with the client's hash, if it gave one; a wrong image must not look installed."""
        if not upload.sha:
            return None
        matches = hashlib.sha256(self._flash.read(Area.SLOT1, 0, upload.length)).hexdigest() == upload.sha
        if not matches:
            self._flash.erase(Area.SLOT1, 0)
        return matches

    def _begin(self, data: bytes, length: int | None, sha: bytes | None) -> tuple[Upload, bool]:
        """Start an upload, or find the one that `sha` continues."""
        if length is None:
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_LENGTH)
        name = sha.hex() if sha else ""
        if self._upload is not None and name and self._upload.sha == name and self._upload.length == length:
            return self._upload, self._upload.offset == 0
        if len(data) < 32:
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_IMAGE_HEADER)
        if data[:4] != b"\x3d\xb8\xf3\x96":
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_IMAGE_HEADER_MAGIC)
        if length > self._flash.size_bytes(Area.SLOT1):
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE)
        # No progress before the slot is blank: a cut in between begins again.
        self._keep_progress(None)
        clear_trailer(self._flash, Area.TRAILER1)
        for sector in range(sectors_for(length)):
            self._flash.erase(Area.SLOT1, sector)
        upload = Upload(name, length, 0)
        self._keep_progress(upload)
        return upload, True

    def _keep_progress(self, upload: Upload | None) -> None:
        self._upload = upload
        if self._progress is None:
            return
        if upload is None:
            self._progress.unlink(missing_ok=True)
            return
        scratch = self._progress.with_suffix(".new")
        # The host's full disk is not the board's trouble: older progress makes a resumed upload repeat some chunks.
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps(asdict(upload)))
            scratch.replace(self._progress)

    def _load_progress(self) -> Upload | None:
        if self._progress is None or not self._progress.exists():
            return None
        try:
            return Upload(**json.loads(self._progress.read_text()))
        except (ValueError, TypeError):
            return None
