"""Dataset files that are none."""

import io
from pathlib import Path

import numpy as np
import pytest

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
