"""The service's cache: which bytes a stage gave is a row of its database, the bytes are in the object store."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from services.artifact_builder import store
from services.artifact_builder.caching.keys import Files
from shared.store import BlobMissingError, Blobs, Store

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class BlobCache:
    """Rows in SQL, blobs by digest. What the object store lost or garbled is forgotten, and the stage runs again."""

    store: Store
    blobs: Blobs

    async def get(self, key: str) -> Files | None:
        """Return what was put under `key`."""
        async with self.store.transaction() as tx:
            outputs = store.stage_outputs(tx, key)
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
        """Store the bytes, then the row: a row that can be found is complete.

        Raises:
            nats.errors.Error: the server does not answer, or its disk is full.
        """
        outputs = {}
        for name, content in files.items():
            outputs[name] = (await self.blobs.put(content, media_type=MEDIA_TYPE, name=f"{stage}/{name}")).digest
        async with self.store.transaction() as tx:
            store.remember_stage(tx, key, outputs=outputs, stage=stage, project=project)
