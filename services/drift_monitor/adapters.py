"""What the handlers need from outside: release indexes from the object store."""

import logging
from collections import OrderedDict
from typing import Final

import numpy as np

from services.drift_monitor.domain import Baseline, Policy
from shared.releases.release import Release
from shared.store import BlobReader, load_release

log = logging.getLogger(__name__)

_KEPT: Final = 64


class Baselines:
    """What releases say of themselves, by digest: the content of a digest never changes, so it is read once."""

    def __init__(self, blobs: BlobReader) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, Baseline] = OrderedDict()

    async def of(self, digest: str) -> Baseline | None:
        """Return the baseline of a release; None when the object store has no release under that digest."""
        if digest in self._known:
            self._known.move_to_end(digest)
            return self._known[digest]
        try:
            release = await load_release(self._blobs, digest)
        except (LookupError, ValueError) as error:
            log.warning("telemetry names release %s, which cannot be read: %s", digest, error)
            return None
        self._known[digest] = baseline_of(release)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return self._known[digest]


def baseline_of(release: Release) -> Baseline:
    """Return what drift is judged by."""
    drift = release.manifest.drift
    return Baseline(
        policy=Policy(
            psi_threshold=drift.psi_threshold,
            minimum_windows=drift.minimum_windows,
            minimum_devices=drift.minimum_devices,
            minimum_production_rows=drift.minimum_production_rows,
        ),
        inputs=np.array(release.reference.counts, np.int64),
        classes=np.array(release.reference.class_counts, np.int64),
        production=release.datasets.production,
    )
