"""Dataset files that are none."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.releases import datasets
from shared.releases.datasets import DatasetError, read_dataset


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.ones((4, 8), np.float32), y=np.arange(4), group=np.arange(4))
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(4, np.float32))
    return buffer.getvalue()


def damaged() -> bytes:
    content = bytearray(npz())
    content[60:90] = bytes(30)
    return bytes(content)


@pytest.mark.parametrize("content", [b"", b"label,x,y", npy(), npz()[:-40], damaged()])
def test_a_file_of_another_kind_or_a_damaged_one_is_named_with_what_writes_a_right_one(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "field.npz"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"field\.npz: not a readable \.npz.*savez_compressed") as caught:
        read_dataset(file)
    assert "pickle" not in str(caught.value)


def test_a_whole_file_is_read() -> None:
    assert len(read_dataset(npz())) == 4


def zip_of(**arrays: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def array_file(shape: tuple[int, ...], dtype: str = "<f4", held: int | None = None) -> bytes:
    """Return an .npy whose header may say anything."""
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + bytes(np.dtype(dtype).itemsize * int(np.prod(shape)) if held is None else held)


GOOD = {"x": array_file((2, 8)), "y": array_file((2,), "<i8"), "group": array_file((2,), "<i8")}


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (
            {"x": array_file((10**12, 8), held=64)},
            r"x\.npy says it is float32 of shape \(1000000000000, 8\), and holds 64",
        ),
        ({"x": array_file((2**40, 2**40), held=0)}, r"and holds 0 bytes"),
        ({"x": array_file((-1, 8), held=0)}, r"and holds 0 bytes"),
        ({"group": array_file((2,), "|O", held=16)}, r"group\.npy says it is object"),
        ({"x": array_file((200_000, 0)), "y": array_file((200_000,), "|i1")}, r"1,600,000 of them in y; allowed are"),
        ({"x": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535}, "not a readable"),
        ({"x": b"\x93NUMPY\x09\x00\x00\x00"}, "version"),
    ],
)
def test_an_array_that_would_fill_the_memory_is_refused_by_its_header(
    arrays: dict[str, bytes], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAXIMUM_BYTES", 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=says):
            read_dataset(zip_of(**(GOOD | arrays)))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_of_zeros_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAXIMUM_BYTES", 10_000_000)
    bomb = zip_of(**(GOOD | {"x": array_file((360_000, 8), "<f4")}))
    assert len(bomb) < 20_000
    with pytest.raises(DatasetError, match=r"11,520,032 bytes unpacked, 11,520,000 of them in x; allowed are 10,000,"):
        read_dataset(bomb, name="train.npz")


def test_a_member_whose_size_is_a_lie_is_damaged() -> None:
    honest = zip_of(**(GOOD | {"x": array_file((2, 8), held=1_000_000)}))
    lying = honest.replace((1_000_000 + 128).to_bytes(4, "little"), (64 + 128).to_bytes(4, "little"))
    assert lying != honest
    with pytest.raises(DatasetError, match="not a readable"):
        read_dataset(lying)


@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), max_size=4))
def test_whatever_is_damaged_is_a_dataset_or_an_error_that_says_so(cut: int, flips: list[tuple[int, int]]) -> None:
    content = bytearray(npz())
    for at, change in flips:
        content[at % len(content)] ^= change
    try:
        read_dataset(bytes(content[: len(content) - cut]))
    except DatasetError as error:
        assert str(error)  # noqa: PT017 - either is right, nothing else is
