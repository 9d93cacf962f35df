"""Recorded inputs with their labels: a folder of int8 tensors, and MLPerf Tiny's list of classes."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeloop.compiling import input_files
from edgeloop.errors import UsageError

_COLUMNS: Final = 3
_LABEL_IN_NAME: Final = re.compile(r"_(\d+)\.bin$")


@dataclass(frozen=True, slots=True)
class Recordings:
    """Input tensors in the order of their files' names.

    Attributes:
        names: Of the files.
        tensors: Shape (files, input bytes).
        labels: Class index of each, shape (files,).
    """

    names: tuple[str, ...]
    tensors: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]


def read_recordings(folder: Path, labels: Path | None, *, input_bytes: int, classes: int) -> Recordings:
    """Read every ``*.bin`` of a folder, one int8 tensor each, and the class of each.

    Args:
        folder: where the files are.
        labels: ``file,classes,label`` in every line, as MLPerf Tiny's y_labels.csv; None: names end in ``_LABEL.bin``.
        input_bytes: what the model takes.
        classes: what the model tells apart.

    Raises:
        UsageError: a file, or a line of `labels`, is not what it must be.
    """
    files = input_files(folder)
    tensors = [_tensor(file, input_bytes) for file in files]
    known = {file.name: _label_in_name(file) for file in files} if labels is None else read_labels(labels, classes)
    return Recordings(
        names=tuple(file.name for file in files),
        tensors=np.stack(tensors),
        labels=np.array([_label_of(file, known, labels, classes) for file in files], np.int64),
    )


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
    size = file.stat().st_size
    if size != input_bytes:
        raise UsageError(
            f"{file}: {size:,} bytes, and the model's input has {input_bytes:,}",
            next_step="quantise inputs to int8 with the model's scale and zero point, one tensor a file",
        )
    return np.frombuffer(file.read_bytes(), np.int8)


def _label_in_name(file: Path) -> int:
    found = _LABEL_IN_NAME.search(file.name)
    if found is None:
        raise UsageError(f"{file}: its name does not end in _LABEL.bin", next_step="give the classes with --labels")
    return int(found[1])


def _label_of(file: Path, known: dict[str, int], labels: Path | None, classes: int) -> int:
    source = "its name" if labels is None else f"--labels {labels}"
    if file.name not in known:
        raise UsageError(f"{file}: {source} has no line for it", next_step=f"add {file.name},{classes},LABEL")
    label = known[file.name]
    if label >= classes:
        raise UsageError(f"{file}: {source} says class {label}; the model has {classes}, counted from 0")
    return label
