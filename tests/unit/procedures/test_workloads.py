"""Workloads travel as bytes: what arrives is what was sent, and what is none is refused."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from shared.boards import image_board
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.procedures import Effort, SensorWindows, Workload, staging
from shared.procedures.parity import Mismatch
from shared.procedures.workloads import WorkloadError, read_workload, write_workload
from shared.releases.datasets import MAXIMUM_BYTES
from shared.releases.release import Quantisation

BOARD = image_board("cortex-m4")


def a_workload(rows: int = 2) -> Workload:
    return Workload(
        board=BOARD,
        model_digest=digest_of(b"model"),
        inputs=np.zeros((rows, 6), np.int8),
        expected=np.zeros((rows, 3), np.int8),
    )


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Workload, Effort]:
    rows = draw(st.integers(1, 4))
    workload = replace(
        a_workload(),
        inputs=draw(nps.arrays(np.int8, (rows, draw(st.integers(1, 9))))),
        expected=draw(nps.arrays(np.int8, (rows, draw(st.integers(1, 4))))),
        labels=draw(st.none() | nps.arrays(np.int64, (rows,))),
        numerics=draw(st.sampled_from(Numerics)),
        static_ram_bytes=draw(st.integers(0, 10**6)),
        accuracy=draw(st.none() | st.floats(0, 1)),
        ram_bytes=draw(st.none() | st.integers(1, 10**6)),
        golden_input=draw(st.none() | st.binary(min_size=1, max_size=9)),
    )
    x = draw(nps.arrays(np.float32, (rows, 3, 2), elements=st.floats(-9, 9, width=32)))
    windows = SensorWindows(x, Quantisation(scale=0.5, zero_point=-3), {"imu": (0, 1)})
    effort = Effort(
        inferences=draw(st.integers(1, 10**6)),
        seconds=draw(st.none() | st.floats(0.1, 100)),
        reset_every=draw(st.integers(1, 1000)),
        hop_bytes=draw(st.none() | st.integers(1, 100)),
        windows=draw(st.sampled_from([None, windows])),
        seed=draw(st.integers(0, 2**31)),
    )
    return workload, effort


def same(a: object, b: object) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b)) if isinstance(a, np.ndarray) else a == b


@given(workloads())
def test_what_is_read_is_what_was_written_and_written_again_the_same(case: tuple[Workload, Effort]) -> None:
    data = write_workload(*case)
    workload, effort = read_workload(data)
    for name in Workload.__slots__:
        assert same(getattr(workload, name), getattr(case[0], name)), name
    assert replace(effort, windows=None) == replace(case[1], windows=None)
    assert (effort.windows is None) == (case[1].windows is None)
    if effort.windows and case[1].windows:
        assert same(effort.windows.x, case[1].windows.x)
        assert effort.windows.sensors == case[1].windows.sensors
    assert write_workload(workload, effort) == data


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_changes_nothing_that_is_read_unseen(at: int, value: int) -> None:
    data = bytearray(write_workload(a_workload()))
    data[at % len(data)] = value
    try:
        workload, _ = read_workload(bytes(data))
    except WorkloadError:
        return
    assert workload.inputs.shape == (2, 6)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "array 'inputs' is missing"),
        ({"inputs": np.zeros((2, 3)), "expected": np.zeros((2, 3)), "facts": np.zeros(3)}, "is float64, not int8"),
    ],
)
def test_another_npz_is_refused_by_what_is_wrong(arrays: dict[str, np.ndarray], said: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type] # its stub takes each for allow_pickle
    with pytest.raises(WorkloadError, match=said):
        read_workload(buffer.getvalue())


def test_arrays_of_unequal_length_are_refused() -> None:
    uneven = replace(a_workload(), expected=np.zeros((3, 3), np.int8))
    with pytest.raises(WorkloadError, match="the same number"):
        read_workload(write_workload(uneven))


def test_a_header_that_promises_more_than_it_holds_is_not_believed() -> None:
    buffer = io.BytesIO()
    header = f"{{'descr': '|i1', 'fortran_order': False, 'shape': ({MAXIMUM_BYTES + 1}, 1), }}"
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("inputs", "expected", "facts"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(WorkloadError, match="holds 0 bytes"):
        read_workload(buffer.getvalue())


def test_a_run_is_read_as_it_was_written() -> None:
    run = staging.BoardRun(
        board="cortex-m4",
        golden_output=b"\x00\xff\x80",
        first_mismatch=Mismatch(3, "00", "ff"),
        second_opinion=staging.SecondOpinion("qemu 7.2", b"\x80", None),
        seconds=0.25,
    )
    assert staging.read_run(staging.write_run(run)) == run
