"""Recorded inputs with their labels: int8 tensors in files or in one array, and MLPerf Tiny's list of classes."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError

_COLUMNS: Final = 3
_LABEL_IN_NAME: Final = re.compile(r"_(\d+)\.(?:bin|npy)$")
_KINDS: Final = ("*.bin", "*.npy")
_QUANTISE: Final = "quantise inputs to int8 with the model's scale and zero point"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Input tensors in the order of their files' names, or of an array's rows.

    Attributes:
        names: Of the files, or numbers of the rows.
        tensors: Shape (inputs, input bytes).
    """

    source: Path
    names: tuple[str, ...]
    tensors: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Recordings:
    """Inputs, and what they are of.

    Attributes:
        names: Of the files, or numbers of the rows.
        tensors: Shape (inputs, input bytes).
        labels: Class index of each, shape (inputs,).
    """

    names: tuple[str, ...]
    tensors: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]


def read_recordings(source: Path, labels: Path | None, *, input_bytes: int, classes: int) -> Recordings:
    """Read inputs and the class of each. Arguments and errors are those of `read_inputs` and `labels_of`."""
    inputs = read_inputs(source, input_bytes)
    return Recordings(inputs.names, inputs.tensors, labels_of(inputs, labels, classes))


def read_inputs(source: Path, input_bytes: int) -> Inputs:
    """Read int8 tensors: a folder's ``*.bin`` or ``*.npy``, one each, or one ``.npy`` file, one a row.

    Raises:
        UsageError: there are none, or one is not what the model takes; the message names it.
    """
    if not source.is_dir():
        rows = _rows(source, input_bytes)
        return Inputs(source, tuple(str(row) for row in range(len(rows))), rows)
    found = {kind: sorted(source.glob(kind)) for kind in _KINDS}
    files = [file for kind in _KINDS for file in found[kind]]
    if not files:
        raise UsageError(
            f"--inputs {source}: no .bin files, and no .npy files",
            next_step="give a folder with one int8 tensor a file, or one .npy with one a row",
        )
    if all(found.values()):
        first, second = (found[kind][0].name for kind in _KINDS)
        raise UsageError(f"--inputs {source}: found {first} and {second}; allowed is one kind of file in a folder")
    tensors = np.stack([_tensor(file, input_bytes) for file in files])
    return Inputs(source, tuple(file.name for file in files), tensors)


def labels_of(inputs: Inputs, labels: Path | None, classes: int) -> npt.NDArray[np.int64]:
    """Return the class of each input.

    Args:
        inputs: what was read.
        labels: ``name,classes,label`` in every line, as MLPerf Tiny's y_labels.csv, or an ``.npy`` of one integer an
            input; None: names end in ``_LABEL.bin`` or ``_LABEL.npy``.
        classes: what the model tells apart.

    Raises:
        UsageError: a line, or an input's label, is not what it must be.
    """
    if labels is not None and labels.suffix == ".npy":
        return _label_array(labels, len(inputs.names), classes)
    if labels is None:
        known: Mapping[str, int] = {name: _label_in_name(inputs.source, name) for name in inputs.names}
    else:
        known = read_labels(labels, classes)
    return np.array([_label_of(inputs.source, name, known, labels, classes) for name in inputs.names], np.int64)


def read_labels(file: Path, classes: int) -> dict[str, int]:
    """Read ``file,classes,label`` lines. Files that are in no folder are no mistake: lists cover whole data sets.

    Raises:
        UsageError: a line is no such triple or is of another model, or a file has two labels.
    """
    found: dict[str, int] = {}
    try:
        rows = list(csv.reader(file.read_text("utf-8").splitlines()))
    except UnicodeDecodeError as error:
        raise UsageError(f"--labels {file}: not UTF-8 text ({error})") from error
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != _COLUMNS or not cells[1].isdecimal() or not cells[2].isdecimal():
            raise UsageError(
                f"--labels {file}: line {number} is {','.join(row)!r}",
                next_step="write FILE,CLASSES,LABEL in every line, such as tst_000004_On_5.bin,12,5",
            )
        name, label = cells[0], int(cells[2])
        if int(cells[1]) != classes:
            raise UsageError(
                f"--labels {file}: line {number} is of {cells[1]} classes; the model tells {classes} apart"
            )
        if found.setdefault(name, label) != label:
            raise UsageError(f"--labels {file}: line {number} says {label} of {name}, an earlier one {found[name]}")
    return found


def _tensor(file: Path, input_bytes: int) -> npt.NDArray[np.int8]:
    if file.suffix == ".npy":
        array = _array(file, "--inputs")
        _require_int8(file, array)
        _require_size(file, array.size, input_bytes)
        return np.ascontiguousarray(array).reshape(-1)
    _require_size(file, file.stat().st_size, input_bytes)
    return np.frombuffer(file.read_bytes(), np.int8)


def _rows(file: Path, input_bytes: int) -> npt.NDArray[np.int8]:
    if file.suffix != ".npy":
        raise UsageError(
            f"--inputs {file}: neither a folder nor an .npy file",
            next_step="give a folder with one int8 tensor a file, or one .npy with one a row",
        )
    array = _array(file, "--inputs")
    _require_int8(file, array)
    if array.ndim < 2 or not len(array) or array.size // len(array) != input_bytes:
        raise UsageError(
            f"--inputs {file}: shape {array.shape}; allowed is (inputs, …) with {input_bytes:,} values each",
            next_step=f"{_QUANTISE}, and stack them along the first axis",
        )
    return np.ascontiguousarray(array).reshape(len(array), -1)


def _array(file: Path, option: str) -> npt.NDArray[Any]:
    try:
        # Mapped, not read: a header that promises more than the file holds is then an error, and no allocation.
        array: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"{option} {file}: no .npy array: {error}", next_step="write it with numpy.save") from error
    return array


def _require_int8(file: Path, array: npt.NDArray[Any]) -> None:
    if array.dtype != np.int8:
        raise UsageError(f"--inputs {file}: found {array.dtype}; allowed is int8", next_step=_QUANTISE)


def _require_size(file: Path, size: int, input_bytes: int) -> None:
    if size != input_bytes:
        raise UsageError(
            f"{file}: {size:,} bytes, and the model's input has {input_bytes:,}",
            next_step=f"{_QUANTISE}, one tensor a file",
        )


def _label_array(file: Path, inputs: int, classes: int) -> npt.NDArray[np.int64]:
    array = _array(file, "--labels")
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (inputs,):
        raise UsageError(
            f"--labels {file}: {array.dtype} of shape {array.shape}; allowed are integers of shape ({inputs},)"
        )
    outside = _outside(array.tolist(), classes)
    if outside is not None:
        raise UsageError(
            f"--labels {file}: row {outside} is {array[outside]}; the model has {classes} classes, counted from 0"
        )
    return array.astype(np.int64)


def _outside(labels: Sequence[int], classes: int) -> int | None:
    return next((row for row, label in enumerate(labels) if not 0 <= label < classes), None)


def _label_in_name(source: Path, name: str) -> int:
    if not source.is_dir():
        raise UsageError(f"--inputs {source}: the rows of an array have no names", next_step="give --labels")
    found = _LABEL_IN_NAME.search(name)
    if found is None:
        raise UsageError(
            f"{source / name}: its name does not end in _LABEL.bin or _LABEL.npy",
            next_step="give the classes with --labels",
        )
    return int(found[1])


def _label_of(source: Path, name: str, known: Mapping[str, int], labels: Path | None, classes: int) -> int:
    said_by = "its name" if labels is None else f"--labels {labels}"
    place = source / name if source.is_dir() else f"{source}, row {name}"
    if name not in known:
        raise UsageError(f"{place}: {said_by} has no line for it", next_step=f"add {name},{classes},LABEL")
    label = known[name]
    if label >= classes:
        raise UsageError(f"{place}: {said_by} says class {label}; the model has {classes}, counted from 0")
    return label
