"""Bytes by digest in the JetStream object store: models, images, datasets, release indexes."""

import base64
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
    """A bucket of the object store, addressed by content: a put is idempotent, a get is verified."""

    def __init__(self, js: JetStreamContext, bucket: str = BUCKET, *, maximum_age_s: float | None = None) -> None:
        """Args: bucket: made when it is missing. maximum_age_s: when the server drops what was put; None: never."""
        self._js = js
        self._name = bucket
        self._maximum_age_s = maximum_age_s
        self._bucket: ObjectStore | None = None

    def beside(self, bucket: str, *, maximum_age_s: float) -> "Blobs":
        """Return another bucket of the same object store, for what may be lost."""
        return Blobs(self._js, bucket, maximum_age_s=maximum_age_s)

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
                f"object store {self._name}: no object {digest}; it was deleted, or the event came from another cluster"
            ) from error
        if digest_of(data) != digest:
            raise BlobMissingError(f"object store {self._name}: {digest} holds {len(data)} bytes of other content")
        return data

    async def delete(self, digest: str) -> None:
        """Remove the bytes with that digest, and every trace of them; nothing happens when there are none."""
        bucket = await self._open()
        try:
            info = await bucket.get_info(digest)
        except NotFoundError:
            return
        name = base64.urlsafe_b64encode(digest.encode()).decode()
        # The client's own delete leaves a message for every name there ever was.
        await self._js.purge_stream(self._stream, subject=f"$O.{self._name}.M.{name}")
        await self._js.purge_stream(self._stream, subject=self._chunks_of(info.nuid or ""))

    @property
    def _stream(self) -> str:
        return f"OBJ_{self._name}"

    def _chunks_of(self, nuid: str) -> str:
        return f"$O.{self._name}.C.{nuid}"

    async def _chunks(self, nuid: str, chunks: int) -> bytes:
        # Direct gets, because the client's own reader waits for ever when the server restarts under it.
        subject, sequence, data = self._chunks_of(nuid), 0, bytearray()
        for _ in range(chunks):
            message = await self._js.get_msg(self._stream, seq=sequence + 1, subject=subject, direct=True, next=True)
            sequence = message.seq or 0
            data += message.data or b""
        return bytes(data)

    async def _open(self) -> ObjectStore:
        if self._bucket is None:
            try:
                self._bucket = await self._js.object_store(self._name)
                await self._keep_age()
            except (BucketNotFoundError, NotFoundError):
                self._bucket = await self._js.create_object_store(self._name, ttl=self._maximum_age_s)
        return self._bucket

    async def _keep_age(self) -> None:
        """Let the server know of another age than the bucket was made with."""
        config, age_s = (await self._js.stream_info(self._stream)).config, self._maximum_age_s
        if age_s is not None and config.max_age != age_s:
            window_s = min(config.duplicate_window or age_s, age_s)  # the server wants no longer one
            await self._js.update_stream(config, max_age=age_s, duplicate_window=window_s)

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
