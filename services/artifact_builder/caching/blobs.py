"""The service's cache: which bytes a stage gave is a row of its database, the bytes are in the object store.

They are in a bucket of their own, so that to remove them can take nothing from a release. Replicas share it, and none
waits for another: whoever reads what was removed a moment ago runs the stage again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy.exc import IntegrityError

from services.artifact_builder import metrics, store
from services.artifact_builder.caching.eviction import Bounds, to_evict, unneeded, used_bytes
from services.artifact_builder.caching.keys import Files
from shared.store import BlobMissingError, Blobs, Store

log = logging.getLogger(__name__)

BUCKET: Final = "STAGES"
MEDIA_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class BlobCache:
    """Rows in SQL, blobs by digest. What the object store lost or garbled is forgotten, and the stage runs again."""

    store: Store
    blobs: Blobs
    bounds: Bounds
    now_s: Callable[[], float] = time.time

    @classmethod
    def beside(cls, artifacts: Blobs, store: Store, bounds: Bounds) -> Self:
        """Return the cache in the object store of `artifacts`. What no row names any more, the server drops by age."""
        return cls(store, artifacts.beside(BUCKET, maximum_age_s=bounds.maximum_age_s), bounds)

    async def get(self, key: str) -> Files | None:
        """Return what was put under `key`."""
        async with self.store.transaction() as tx:
            outputs = store.stage_outputs(tx, key, now_s=self.now_s())
        if outputs is None:
            return None
        try:
            contents = await asyncio.gather(*(self.blobs.get(digest) for digest in outputs.values()))
        except BlobMissingError as error:
            log.warning("what a stage gave is not in the object store; it runs again", extra={"reason": str(error)})
            async with self.store.transaction() as tx:
                store.forget_stage(tx, key)
            return None
        return dict(zip(outputs, contents, strict=True))

    async def put(self, key: str, files: Files, *, stage: str, project: str) -> None:
        """Store the bytes, then the row: a row that can be found is complete. Too much for the whole cache is not kept.

        Raises:
            nats.errors.Error: the server does not answer, or its disk is full.
        """
        if sum(map(len, files.values())) > self.bounds.maximum_bytes:
            return
        outputs, sizes = {}, {}
        for name, content in files.items():
            blob = await self.blobs.put(content, media_type=MEDIA_TYPE, name=f"{stage}/{name}")
            outputs[name], sizes[blob.digest] = blob.digest, blob.size_bytes
        with contextlib.suppress(IntegrityError):  # another replica put it at the same moment
            async with self.store.transaction() as tx:
                store.remember_stage(
                    tx, key, outputs=outputs, sizes=sizes, stage=stage, project=project, now_s=self.now_s()
                )

    async def make_room(self) -> None:
        """Remove what is too old, and of too much what was not used for longest.

        Raises:
            nats.errors.Error: the server does not answer.
        """
        async with self.store.transaction() as tx:
            evicted = to_evict(store.cached_stages(tx), self.bounds, self.now_s())
            store.evict(tx, evicted)
            kept = store.cached_stages(tx)
        for digest in unneeded(evicted, kept):
            await self.blobs.delete(digest)
        metrics.CACHE_BYTES.set(used_bytes(kept))
        metrics.CACHE_EVICTIONS.inc(len(evicted))
        if evicted:
            log.info("removed stages from the cache", extra={"stages": len(evicted), "kept": len(kept)})
