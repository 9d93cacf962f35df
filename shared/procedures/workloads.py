"""Workloads as bytes: an .npz of arrays, one of them JSON. Equal workloads give equal bytes: a digest names one."""

import io
import zipfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.boards import UnknownBoardError, image_board
from shared.events.lab import Numerics
from shared.procedures import Effort, SensorWindows, Workload
from shared.releases.datasets import MAXIMUM_BYTES, UNREADABLE, declared_bytes, read_member
from shared.releases.release import Quantisation

MEDIA_TYPE: Final = "application/vnd.edgeloop.workload.v1"
_FACTS: Final = "facts"
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "inputs": np.dtype(np.int8),
    "expected": np.dtype(np.int8),
    "labels": np.dtype(np.int64),
    "golden": np.dtype(np.uint8),
    "windows": np.dtype(np.float32),
    _FACTS: np.dtype(np.uint8),
}
_NEEDED: Final = ("inputs", "expected", _FACTS)


class WorkloadError(ValueError):
    """The bytes are no workload. The message says what was found."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Windows(_Part):
    quantisation: Quantisation
    sensors: dict[str, tuple[int, ...]]


class _Effort(_Part):
    inferences: int
    seconds: float | None
    reset_every: int
    hop_bytes: int | None
    seed: int


class _Facts(_Part):
    board: str
    model_digest: str
    numerics: Numerics
    static_ram_bytes: int
    accuracy: float | None
    ram_bytes: int | None
    effort: _Effort
    windows: _Windows | None


def write_workload(workload: Workload, effort: Effort | None = None) -> bytes:
    """Return the bytes of a workload, and of how much is to be done with it."""
    effort = effort or Effort()
    windows = effort.windows
    facts = _Facts(
        board=workload.board.name,
        model_digest=workload.model_digest,
        numerics=workload.numerics,
        static_ram_bytes=workload.static_ram_bytes,
        accuracy=workload.accuracy,
        ram_bytes=workload.ram_bytes,
        effort=_Effort(
            inferences=effort.inferences,
            seconds=effort.seconds,
            reset_every=effort.reset_every,
            hop_bytes=effort.hop_bytes,
            seed=effort.seed,
        ),
        windows=windows and _Windows(quantisation=windows.quantisation, sensors=dict(windows.sensors)),
    )
    arrays: dict[str, npt.NDArray[Any]] = {
        "inputs": workload.inputs.reshape(len(workload.inputs), -1),
        "expected": workload.expected.reshape(len(workload.expected), -1),
        _FACTS: np.frombuffer(facts.model_dump_json().encode(), np.uint8),
    }
    if workload.labels is not None:
        arrays["labels"] = workload.labels
    if workload.golden_input is not None:
        arrays["golden"] = np.frombuffer(workload.golden_input, np.uint8)
    if windows is not None:
        arrays["windows"] = windows.x
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_workload(data: bytes) -> tuple[Workload, Effort]:
    """Return what `write_workload` wrote, without unpickling anything.

    Raises:
        WorkloadError: it is none, or its parts contradict one another.
    """
    try:
        arrays = _arrays(data)
        facts = _Facts.model_validate_json(arrays[_FACTS].tobytes())
        board = image_board(facts.board)
    except (*UNREADABLE, ValidationError, UnknownBoardError) as error:
        raise WorkloadError(f"no workload: {error}. Next: write it with this version's `edgeloop`") from error
    inputs, expected, labels = arrays["inputs"], arrays["expected"], arrays.get("labels")
    rows = {name: len(array) for name, array in arrays.items() if name in ("inputs", "expected", "labels", "windows")}
    if len(set(rows.values())) != 1 or not rows["inputs"] or inputs.ndim != 2 or expected.ndim != 2:
        raise WorkloadError(
            f"no workload: arrays of {rows} rows; allowed is the same number, at least 1, of one vector each"
        )
    golden = arrays.get("golden")
    workload = Workload(
        board=board,
        model_digest=facts.model_digest,
        inputs=inputs,
        expected=expected,
        labels=labels,
        numerics=facts.numerics,
        static_ram_bytes=facts.static_ram_bytes,
        accuracy=facts.accuracy,
        ram_bytes=facts.ram_bytes,
        golden_input=None if golden is None else golden.tobytes(),
    )
    windows = None
    if facts.windows is not None and "windows" in arrays:
        windows = SensorWindows(arrays["windows"], facts.windows.quantisation, facts.windows.sensors)
    return workload, Effort(windows=windows, **facts.effort.model_dump())


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if missing := [name for name in _NEEDED if name not in members]:
            raise ValueError(f"array {missing[0]!r} is missing, found {sorted(members)[:10]}")
        known = {name: info for name, info in members.items() if name in _DTYPES}
        size = sum(declared_bytes(archive, info, _DTYPES[name].itemsize) for name, info in known.items())
        if size > MAXIMUM_BYTES:
            raise ValueError(f"{size:,} bytes unpacked; allowed are {MAXIMUM_BYTES:,}")
        arrays = {name: read_member(archive, info) for name, info in known.items()}
    if wrong := [name for name, array in arrays.items() if array.dtype != _DTYPES[name]]:
        found = arrays[wrong[0]].dtype
        raise ValueError(f"array {wrong[0]!r} is {found}, not {_DTYPES[wrong[0]]}")
    return arrays
