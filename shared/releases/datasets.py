"""Datasets as files: one .npz, three arrays."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


class DatasetError(ValueError):
    """A dataset file is not what the format allows."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled windows of sensor data.

    Attributes:
        x: Windows, shape (rows, *input shape), float32, channels last.
        y: Class index of each row, shape (rows,), int64.
        group: Person or device that each row comes from, shape (rows,), int64 or str.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    group: npt.NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.x)


def read_dataset(source: bytes | Path, *, name: str = "dataset") -> Dataset:
    """Read an .npz without unpickling anything.

    Raises:
        DatasetError: not an .npz, an array is missing, has the wrong type, or differs in length.
    """
    if isinstance(source, Path):
        name, source = str(source), source.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(source)):  # numpy would take it for a pickle
        raise DatasetError(f"{name}: not a readable .npz, which is a zip archive; write it with numpy.savez_compressed")
    try:
        with np.load(io.BytesIO(source), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{name}: not a readable .npz: {error}; write it with numpy.savez_compressed") from error
    missing = [key for key in ("x", "y", "group") if key not in found]
    if missing:
        raise DatasetError(
            f"{name}: array {missing[0]!r} is missing, found {sorted(found)}; allowed are exactly x, y and group"
        )
    x, y, group = found["x"], found["y"], found["group"]
    if not np.issubdtype(x.dtype, np.floating) or x.ndim < 2:
        raise DatasetError(f"{name}: x is {x.dtype} of shape {x.shape}; it must be float32 of (rows, *input shape)")
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise DatasetError(f"{name}: y is {y.dtype} of shape {y.shape}; it must be the class index, (rows,)")
    if not len(x) == len(y) == len(group):
        raise DatasetError(f"{name}: x, y and group have {len(x)}, {len(y)} and {len(group)} rows; they must be equal")
    return Dataset(x=x.astype(np.float32), y=y.astype(np.int64), group=group)


def write_dataset(dataset: Dataset) -> bytes:
    """Return the .npz of `dataset`; equal datasets give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=dataset.x, y=dataset.y, group=dataset.group)
    return buffer.getvalue()
