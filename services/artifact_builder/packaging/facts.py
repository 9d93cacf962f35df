"""What is known of a release when it is packed, beyond its index."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from shared.artifacts.environment import Environment
from shared.artifacts.keys import PublicKey
from shared.events import Blob
from shared.releases.datasets import read_dataset
from shared.releases.release import Release


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """One dataset of the release."""

    blob: Blob
    role: str
    rows: int
    groups: int

    @property
    def name(self) -> str:
        """Its name without folder and ending, for example ``train``."""
        return PurePosixPath(self.blob.name).stem

    @classmethod
    def of(cls, blob: Blob, role: str, data: bytes) -> "DatasetFacts":
        """Count the rows, and the persons or devices that they come from."""
        dataset = read_dataset(data, name=blob.name)
        return cls(blob, role, len(dataset), len(np.unique(dataset.group)))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the model card, the bill of materials and the provenance are written from."""

    release: Release
    datasets: tuple[DatasetFacts, ...]
    environment: Environment
    key: PublicKey
    manifest_digest: str
    """Of `edgeloop.yaml`."""

    @property
    def model_files(self) -> tuple[Blob, ...]:
        """The model's files, each once: a source that is Keras or int8 stands in the index under two names."""
        named = (value for value in vars(self.release.model).values() if isinstance(value, Blob))
        return tuple({blob.name: blob for blob in named}.values())
