"""Handing in labelled recordings: checked, stored by digest, and announced."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.events import connected
from shared.bus import Publisher
from shared.events import derived_id
from shared.events.catalogue import subject_filter
from shared.events.dataset import DATASET_MEDIA_TYPE, DatasetAdded, DatasetRole
from shared.events.source import SourcePushed
from shared.releases.datasets import DatasetError, read_dataset
from shared.store import Blobs


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A dataset file that can be handed in."""

    name: str
    content: bytes
    rows: int
    groups: int


def checked(file: Path) -> CheckedFile:
    """Read and check a dataset file.

    Raises:
        UsageError: it is not a dataset, or an empty one.
    """
    content = file.read_bytes()
    try:
        dataset = read_dataset(content, name=str(file))
    except DatasetError as error:
        raise UsageError(str(error)) from error
    if not len(dataset):
        raise UsageError(f"{file}: x has no rows; at least one is needed")
    return CheckedFile(file.name, content, len(dataset), len(np.unique(dataset.group)))


async def add_dataset(
    url: str, project: str, file: CheckedFile, role: DatasetRole, *, description: str = ""
) -> tuple[DatasetAdded, bool]:
    """Store a dataset and publish that it is there; return the event's payload and whether it was known already.

    Raises:
        shared.bus.BusError: the bus is out of reach or did not take it.
    """
    async with connected(url) as nc:
        blob = await Blobs(nc.jetstream()).put(file.content, media_type=DATASET_MEDIA_TYPE, name=file.name)
        payload = DatasetAdded(
            project=project, role=role, blob=blob, rows=file.rows, groups=file.groups, description=description
        )
        event_id = derived_id("dataset", project, role, blob.digest)
        duplicate = await Publisher(nc, "edgeloop-cli").publish(payload, event_id=event_id, run_id=event_id)
    return payload, duplicate


async def is_known(url: str, project: str) -> bool:
    """Return whether the bus has a push of this project: a dataset for any other waits for ever."""
    async with connected(url) as nc:
        subject = subject_filter(SourcePushed, project)
        info = await nc.jetstream().stream_info("EVENTS", subjects_filter=subject)
        return bool(info.state.subjects)
