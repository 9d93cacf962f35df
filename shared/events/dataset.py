"""Data that arrives after training."""

from enum import StrEnum
from typing import ClassVar, Final

from pydantic import Field

from shared.events._base import Blob, Payload

DATASET_MEDIA_TYPE: Final = "application/vnd.numpy.npz"
"""Of every dataset in the object store; `shared/releases/datasets.py` reads and writes it."""


class DatasetRole(StrEnum):
    """Where a dataset comes from, which decides what it may be used for."""

    BASELINE = "baseline"
    EXPANDED = "expanded"
    SYNTHETIC = "synthetic"
    PRODUCTION = "production"


class DatasetAdded(Payload):
    """Labelled recordings joined a project's data; retraining may use them."""

    TYPE: ClassVar[str] = "dataset.added.v1"

    role: DatasetRole
    blob: Blob = Field(description="An .npz of x, y and group: see shared/releases/datasets.py")
    rows: int = Field(ge=1)
    groups: int = Field(ge=1, description="How many people or devices they come from")
    description: str = ""
