"""Bytes by digest in the JetStream object store: models, images, datasets, release indexes."""

from typing import Final, Protocol

from nats.js import JetStreamContext
from nats.js.api import ObjectMeta
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.object_store import ObjectStore

from shared.artifacts.oci import ArtifactManifest, is_manifest
from shared.events import Blob, digest_of
from shared.releases.release import Release

BUCKET: Final = "ARTIFACTS"


class BlobMissingError(LookupError):
    """No complete object has that digest."""


class BlobReader(Protocol):
    """The object store, for reading."""

    async def get(self, digest: str) -> bytes:
        """Return the bytes with that digest. Raises BlobMissingError when there are none."""


class Blobs:
    """The object store, addressed by content: a put is idempotent, a get is verified."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._bucket: ObjectStore | None = None

    async def put(self, data: bytes, *, media_type: str, name: str = "") -> Blob:
        """Store `data` unless it is there, and return its reference.

        Raises:
            nats.errors.Error: the server does not answer, or its disk is full.
        """
        blob = Blob.of(data, media_type=media_type, name=name)
        bucket = await self._open()
        if not await self._holds(bucket, blob.digest):
            await bucket.put(blob.digest, data, meta=ObjectMeta(name=blob.digest, description=media_type))
        return blob

    async def get(self, digest: str) -> bytes:
        """Return the bytes with that digest.

        Raises:
            BlobMissingError: there is no such object, or its bytes do not have the digest it is stored under.
        """
        bucket = await self._open()
        try:
            info = await bucket.get_info(digest)
            data = await self._chunks(info.nuid or "", info.chunks or 0)
        except NotFoundError as error:
            raise BlobMissingError(
                f"object store {BUCKET}: no object {digest}; it was deleted, or the event came from another cluster"
            ) from error
        if digest_of(data) != digest:
            raise BlobMissingError(f"object store {BUCKET}: {digest} holds {len(data)} bytes of other content")
        return data

    async def _chunks(self, nuid: str, chunks: int) -> bytes:
        # Direct gets, because the client's own reader waits for ever when the server restarts under it.
        subject, sequence, data = f"$O.{BUCKET}.C.{nuid}", 0, bytearray()
        for _ in range(chunks):
            message = await self._js.get_msg(f"OBJ_{BUCKET}", seq=sequence + 1, subject=subject, direct=True, next=True)
            sequence = message.seq or 0
            data += message.data or b""
        return bytes(data)

    async def _open(self) -> ObjectStore:
        if self._bucket is None:
            try:
                self._bucket = await self._js.object_store(BUCKET)
            except (BucketNotFoundError, NotFoundError):
                self._bucket = await self._js.create_object_store(BUCKET)
        return self._bucket

    @staticmethod
    async def _holds(bucket: ObjectStore, digest: str) -> bool:
        try:
            await bucket.get_info(digest)
        except NotFoundError:
            return False
        return True


async def load_index(blobs: BlobReader, digest: str) -> bytes:
    """Return the release index of an artifact: its manifest's config. A release of Edgeloop 0.1 is its index itself.

    Raises:
        BlobMissingError: the manifest or the index is not in the object store.
        ValueError: the digest is that of something else.
    """
    data = await blobs.get(digest)
    if is_manifest(data):
        return await blobs.get(ArtifactManifest.model_validate_json(data).config.digest)
    return data


async def load_release(blobs: BlobReader, digest: str) -> Release:
    """Return the release of an artifact.

    Raises:
        BlobMissingError: the manifest or the index is not in the object store.
        ValueError: a newer builder wrote it, or the digest is that of something else.
    """
    return Release.model_validate_json(await load_index(blobs, digest))
