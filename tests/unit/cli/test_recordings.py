"""Recorded inputs, whichever way they are kept, and errors that name the file, what was found and what is allowed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeloop.bench.recordings import Recordings, read_recordings
from edgeloop.errors import UsageError

TENSORS = np.arange(12, dtype=np.int8).reshape(3, 4)
LABELS = [1, 0, 2]


def read(source: Path, labels: Path | None = None) -> Recordings:
    return read_recordings(source, labels, input_bytes=4, classes=3)


def _bins(folder: Path) -> Path:
    for row, label in enumerate(LABELS):
        (folder / f"in{row}_{label}.bin").write_bytes(TENSORS[row].tobytes())
    return folder


def _npys(folder: Path) -> Path:
    for row, label in enumerate(LABELS):
        np.save(folder / f"in{row}_{label}.npy", TENSORS[row].reshape(1, 2, 2))
    return folder


@pytest.mark.parametrize("keep", [_bins, _npys])
def test_a_folder_holds_one_tensor_a_file(keep: Callable[[Path], Path], tmp_path: Path) -> None:
    found = read(keep(tmp_path))
    assert found.tensors.tolist() == TENSORS.tolist()
    assert found.labels.tolist() == LABELS


@pytest.mark.parametrize("labels", ["y.npy", "y.csv"])
def test_an_array_holds_one_tensor_a_row(labels: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TENSORS.reshape(3, 2, 2))
    np.save(tmp_path / "y.npy", np.array(LABELS))
    (tmp_path / "y.csv").write_text("".join(f"{row},3,{label}\n" for row, label in enumerate(LABELS)))
    found = read(tmp_path / "x.npy", tmp_path / labels)
    assert found.names == ("0", "1", "2")
    assert found.tensors.tolist() == TENSORS.tolist()
    assert found.labels.tolist() == LABELS


def saved(folder: Path, array: npt.NDArray[Any], labels: npt.NDArray[Any] | None = None) -> tuple[Path, Path | None]:
    np.save(folder / "x.npy", array)
    if labels is None:
        return folder / "x.npy", None
    np.save(folder / "y.npy", labels)
    return folder / "x.npy", folder / "y.npy"


@pytest.mark.parametrize(
    ("array", "labels", "said"),
    [
        (TENSORS.astype(np.float32), None, r"x.npy: found float32; allowed is int8"),
        (TENSORS[0], None, r"x.npy: shape \(4,\); allowed is \(inputs, …\) with 4 values each"),
        (TENSORS[:0], None, r"x.npy: shape \(0, 4\); allowed is"),
        (TENSORS[:, :3], None, r"x.npy: shape \(3, 3\); allowed is"),
        (TENSORS, None, "the rows of an array have no names"),
        (TENSORS, np.array([0, 1]), r"y.npy: int64 of shape \(2,\); allowed are integers of shape \(3,\)"),
        (TENSORS, np.array([0.0, 1, 2]), r"y.npy: float64 of shape"),
        (TENSORS, np.array([0, 3, 2]), "y.npy: row 1 is 3; the model has 3 classes, counted from 0"),
        (TENSORS, np.array([0, 1, -1]), "y.npy: row 2 is -1"),
    ],
)
def test_an_array_that_is_none_of_this_model_is_named(
    array: npt.NDArray[Any], labels: npt.NDArray[Any] | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        read(*saved(tmp_path, array, labels))


def test_pickles_and_garbage_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"x\.npy: no \.npy array"):
        read(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UsageError, match=r"x\.npy: no \.npy array"):
        read(tmp_path / "x.npy")


def test_an_array_that_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TENSORS)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole.replace(b"(3, 4), }  ", b"(9999, 4),}"))
    with pytest.raises(UsageError, match=r"x\.npy: no \.npy array"):
        read(tmp_path / "x.npy")


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TENSORS)
    (tmp_path / "y.csv").write_text("0,3,1\n2,3,0\n")
    with pytest.raises(UsageError, match=r"x.npy, row 1: --labels .* has no line for it"):
        read(tmp_path / "x.npy", tmp_path / "y.csv")


def test_a_folder_with_both_kinds_of_files_is_refused(tmp_path: Path) -> None:
    _npys(_bins(tmp_path))
    with pytest.raises(UsageError, match=r"found in0_1.bin and in0_1.npy; allowed is one kind"):
        read(tmp_path)


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1")
    with pytest.raises(UsageError, match=r"neither a folder nor an \.npy file"):
        read(tmp_path / "x.txt")
