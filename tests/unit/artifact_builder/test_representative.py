import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.inputs.representative import REPRESENTATIVE_ROWS, RowsError, representative, stratified


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 120))
def test_every_class_has_the_same_share_as_far_as_its_rows_go(labels: list[int], rows: int) -> None:
    y = np.array(labels)
    picked = stratified(y, rows)
    assert len(picked) == min(rows, len(y)) == len(set(picked.tolist()))
    assert picked.tolist() == sorted(picked.tolist())
    counts = {label: int((y[picked] == label).sum()) for label in np.unique(y)}
    unfinished = [count for label, count in counts.items() if count < (y == label).sum()]
    if unfinished:  # only a class that gave all it has may have fewer rows than another
        assert max(unfinished) <= min(unfinished) + 1
        assert max(counts.values()) <= min(unfinished) + 1


def test_a_rare_class_is_represented_whole_and_a_common_one_from_first_to_last_row() -> None:
    y = np.array([0] * 5000 + [1] * 7)
    picked = stratified(y, REPRESENTATIVE_ROWS)
    assert set(range(5000, 5007)) < set(picked.tolist())
    assert (picked[0], picked[-8]) == (0, 4999)


def test_rows_with_nan_or_infinity_are_named() -> None:
    x = np.ones((9, 4, 2), np.float32)
    x[3, 1, 0], x[7, 0, 1] = np.nan, -np.inf
    with pytest.raises(RowsError, match=r"train\.npz: 2 rows hold NaN or infinity, the first are \[3, 7\]"):
        representative(x, np.zeros(9, np.int64), "train.npz")


def test_sound_data_need_no_note() -> None:
    x = np.random.default_rng(1).normal(0, 1, (300, 20, 3)).astype(np.float32)
    assert representative(x, np.arange(300) % 3, "train.npz").notes == ()


def test_a_dead_a_tiny_and_a_wild_channel_are_noted() -> None:
    x = np.random.default_rng(1).normal(0, 1, (300, 20, 3)).astype(np.float32)
    x[..., 0] = 0.5
    x[..., 1] *= 0.001
    x[5, 3, 2] = 400
    notes = representative(x, np.arange(300) % 3, "train.npz").notes
    assert ["channel 0 is 0.5" in notes[0], "channel 1 reaches" in notes[1], "largest value is 400" in notes[2]] == [
        True
    ] * 3
