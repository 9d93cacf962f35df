"""Datasets as files: one .npz, three arrays."""

import io
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

MAXIMUM_BYTES: Final = 2**30
"""Of a dataset's arrays in memory: 400,000 windows of two seconds at 50 Hz with six channels."""
_ITEM_BYTES: Final = {"x": 4, "y": 8, "group": 0}
"""What the items of each array are widened to."""
_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
UNREADABLE: Final = (
    EOFError,
    MemoryError,
    NotImplementedError,  # a compression that this Python lacks
    OSError,
    OverflowError,
    RuntimeError,  # an encrypted member
    SyntaxError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


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
    """Read an .npz without unpickling anything, and without unpacking more than `MAXIMUM_BYTES`.

    Raises:
        DatasetError: not an .npz, too large, an array is missing, has the wrong type, or differs in length.
    """
    if isinstance(source, Path):
        name, source = str(source), source.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(source)):  # numpy would take it for a pickle
        raise DatasetError(f"{name}: not a readable .npz, which is a zip archive; write it with numpy.savez_compressed")
    try:
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            x, y, group = _arrays(archive, name)
    except DatasetError:
        raise
    except UNREADABLE as error:
        raise DatasetError(f"{name}: not a readable .npz: {error}; write it with numpy.savez_compressed") from error
    if not np.issubdtype(x.dtype, np.floating) or x.ndim < 2:
        raise DatasetError(f"{name}: x is {x.dtype} of shape {x.shape}; it must be float32 of (rows, *input shape)")
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise DatasetError(f"{name}: y is {y.dtype} of shape {y.shape}; it must be the class index, (rows,)")
    if not len(x) == len(y) == len(group):
        raise DatasetError(f"{name}: x, y and group have {len(x)}, {len(y)} and {len(group)} rows; they must be equal")
    return Dataset(x=x.astype(np.float32), y=y.astype(np.int64), group=group)


def _arrays(archive: zipfile.ZipFile, name: str) -> list[npt.NDArray[np.generic]]:
    """Return x, y and group, once it is sure that they are as large as they say and no larger than may be."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if missing := [key for key in _ITEM_BYTES if key not in members]:
        raise DatasetError(
            f"{name}: array {missing[0]!r} is missing, found {sorted(members)[:10]}; allowed are exactly x, y and group"
        )
    sizes = {key: declared_bytes(archive, members[key], item_bytes) for key, item_bytes in _ITEM_BYTES.items()}
    if sum(sizes.values()) > MAXIMUM_BYTES:
        largest = max(sizes, key=lambda key: sizes[key])
        raise DatasetError(
            f"{name}: {sum(sizes.values()):,} bytes unpacked, {sizes[largest]:,} of them in {largest}; allowed are "
            f"{MAXIMUM_BYTES:,}. Next: keep fewer rows"
        )
    return [read_member(archive, members[key]) for key in _ITEM_BYTES]


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[np.generic]:
    """Return one array of an .npz, without unpickling anything. Raises one of `UNREADABLE`."""
    with archive.open(member) as stream:
        array: npt.NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
        return array


def declared_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, item_bytes: int) -> int:
    """Return what an array takes in memory, items widened to `item_bytes`, from its header alone.

    numpy believes the header and allocates; the zip's own size of the member is what bounds the reading.
    """
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} has version {version} of the format")
        shape, _, dtype = _HEADERS[version](stream)
        held = member.file_size - stream.tell()
    items = math.prod(shape)
    if dtype.hasobject or min(shape, default=0) < 0 or items * dtype.itemsize != held:
        raise ValueError(f"{member.filename} says it is {dtype} of shape {shape}, and holds {held:,} bytes")
    return items * max(dtype.itemsize, item_bytes)


def write_dataset(dataset: Dataset) -> bytes:
    """Return the .npz of `dataset`; equal datasets give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=dataset.x, y=dataset.y, group=dataset.group)
    return buffer.getvalue()
