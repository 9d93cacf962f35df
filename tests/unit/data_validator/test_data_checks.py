"""Each check of the datasets: what passes it, and the bad data that does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data_validator.domain import CONTENT, STRUCTURE, Evidence, judge
from services.data_validator.hashing import shared_runs, window_hashes
from shared.events import CheckOutcome
from shared.releases.datasets import Dataset
from shared.releases.gates import passes
from shared.releases.manifest import Manifest

MANIFEST = Manifest.model_validate(
    {
        "version": 1,
        "name": "Gestures",
        "labels": ["rest", "swing", "shake"],
        "input": {"shape": [40, 2], "channels": ["ax", "ay"], "minimum": -10, "maximum": 10},
        "data": {
            "prepare": {"command": ["python", "prepare.py"]},
            "train": {"path": "train.npz"},
            "test": {"path": "test.npz"},
        },
        "model": {"train": {"command": ["python", "train.py"]}},
        "boards": ["cortex-m4"],
        "gates": {"accuracy": 0.8, "minimum_rows": 30},
    }
)


def recordings(rows: int, groups: tuple[str, ...], seed: int) -> Dataset:
    generator = np.random.default_rng(seed)
    return Dataset(
        x=generator.normal(0, 1, (rows, 40, 2)).astype(np.float32),
        y=np.arange(rows, dtype=np.int64) % 3,
        group=np.array(groups)[np.arange(rows) % len(groups)],
    )


def healthy() -> Evidence:
    return Evidence(MANIFEST, recordings(90, ("ann", "bob"), 1), recordings(60, ("eve",), 2))


def with_part(evidence: Evidence, part: str, dataset: Dataset) -> Evidence:
    return replace(evidence, train=dataset) if part == "train" else replace(evidence, test=dataset)


def with_x(evidence: Evidence, part: str, change: Callable[[np.ndarray], object]) -> Evidence:
    dataset: Dataset = getattr(evidence, part)
    x = dataset.x.copy()
    change(x)
    return with_part(evidence, part, replace(dataset, x=x))


def with_y(evidence: Evidence, part: str, y: np.ndarray) -> Evidence:
    return with_part(evidence, part, replace(getattr(evidence, part), y=y))


def first_rows(evidence: Evidence, part: str, rows: int) -> Evidence:
    whole: Dataset = getattr(evidence, part)
    return with_part(evidence, part, Dataset(whole.x[:rows], whole.y[:rows], whole.group[:rows]))


def nan_in_test() -> Evidence:
    return with_x(healthy(), "test", lambda x: x.__setitem__((7, 3, 1), np.nan))


def infinity_in_train() -> Evidence:
    return with_x(healthy(), "train", lambda x: x.__setitem__((0, 0, 0), np.inf))


def transposed_test() -> Evidence:
    evidence = healthy()
    return replace(evidence, test=replace(evidence.test, x=evidence.test.x.transpose(0, 2, 1)))


def label_beyond_the_last() -> Evidence:
    return with_y(healthy(), "train", np.arange(90, dtype=np.int64) % 4)


def negative_label() -> Evidence:
    return with_y(healthy(), "test", np.arange(60, dtype=np.int64) % 3 - 1)


def wrong_unit() -> Evidence:
    return with_x(healthy(), "test", lambda x: x.__imul__(9.81))


def few_test_rows() -> Evidence:
    return first_rows(healthy(), "test", 29)


def no_train_rows() -> Evidence:
    return first_rows(healthy(), "train", 0)


def class_never_trained() -> Evidence:
    return with_y(healthy(), "train", np.arange(90, dtype=np.int64) % 2)


def class_never_tested() -> Evidence:
    return with_y(healthy(), "test", np.arange(60, dtype=np.int64) % 2)


def one_class_drowned() -> Evidence:
    y = np.zeros(400, dtype=np.int64)
    y[:7], y[7:14] = 1, 2
    return with_y(replace(healthy(), train=recordings(400, ("ann",), 3)), "train", y)


def person_on_both_sides() -> Evidence:
    evidence = healthy()
    return replace(evidence, test=replace(evidence.test, group=np.array(["bob"] * 60)))


def window_on_both_sides() -> Evidence:
    evidence = healthy()
    return with_x(evidence, "test", lambda x: x.__setitem__(5, evidence.train.x[17]))


def windows_cut_before_the_split() -> Evidence:
    evidence = healthy()

    def overlap(x: np.ndarray) -> None:
        x[:10, :20] = evidence.train.x[:10, 20:]

    return with_x(evidence, "test", overlap)


def equal_windows_of_two_classes() -> Evidence:
    return with_x(healthy(), "train", lambda x: x.__setitem__(1, x[0]))


def dead_axis() -> Evidence:
    return with_x(healthy(), "train", lambda x: x.__setitem__((slice(10), slice(None), 1), 0.5))


def saturated_axis() -> Evidence:
    return with_x(healthy(), "test", lambda x: np.clip(x, -1.2, 1.2, out=x))


def broken_production() -> Evidence:
    bad = recordings(30, ("zoe",), 4)
    bad.x[3] = np.nan
    return replace(healthy(), production={"production[0]": recordings(30, ("yan",), 5), "production[1]": bad})


GENERATED = "extra/generated.npz"


def with_more(**changes: np.ndarray) -> Evidence:
    extra = replace(recordings(40, ("gen",), 6), **changes)
    return replace(healthy(), more={"extra/field.npz": recordings(30, ("yan",), 5), GENERATED: extra})


def more_in_another_shape() -> Evidence:
    return with_more(x=recordings(40, ("gen",), 6).x[:, ::2])


def nan_in_more() -> Evidence:
    x = recordings(40, ("gen",), 6).x
    x[9, 0, 0] = np.nan
    return with_more(x=x)


def unknown_label_in_more() -> Evidence:
    return with_more(y=np.full(40, 7, dtype=np.int64))


def more_in_the_wrong_unit() -> Evidence:
    return with_more(x=recordings(40, ("gen",), 6).x * np.float32(9.81))


def person_of_test_in_more() -> Evidence:
    return with_more(group=np.array(["eve"] * 40))


def window_of_test_in_more() -> Evidence:
    x = recordings(40, ("gen",), 6).x
    x[11] = healthy().test.x[5]
    return with_more(x=x)


def more_overlaps_test() -> Evidence:
    x = recordings(40, ("gen",), 6).x
    x[:10, :20] = healthy().test.x[:10, 20:]
    return with_more(x=x)


def conflict_in_more() -> Evidence:
    x = recordings(40, ("gen",), 6).x
    x[4] = x[2]
    return with_more(x=x)


def dead_axis_in_more() -> Evidence:
    x = recordings(40, ("gen",), 6).x
    x[:10, :, 0] = 1
    return with_more(x=x)


FAILED, INSUFFICIENT = CheckOutcome.FAILED, CheckOutcome.INSUFFICIENT_EVIDENCE


@pytest.mark.parametrize(
    ("bad", "check", "outcome", "says"),
    [
        (transposed_test, "window-shape", FAILED, "test: reshape"),
        (nan_in_test, "finite-values", FAILED, "test row 7"),
        (infinity_in_train, "finite-values", FAILED, "train row 0"),
        (broken_production, "finite-values", FAILED, "production[1] row 3"),
        (label_beyond_the_last, "known-labels", FAILED, "missing names to labels"),
        (negative_label, "known-labels", FAILED, "correct y"),
        (wrong_unit, "value-range", FAILED, "test: look for a wrong unit"),
        (few_test_rows, "enough-rows", INSUFFICIENT, "insufficient evidence does not pass"),
        (no_train_rows, "enough-rows", INSUFFICIENT, "add recordings"),
        (class_never_trained, "classes-in-train", FAILED, "no row of shake"),
        (class_never_tested, "classes-in-test", INSUFFICIENT, "no row of shake"),
        (one_class_drowned, "class-balance", FAILED, "rare class"),
        (person_on_both_sides, "group-leakage", FAILED, "group bob"),
        (window_on_both_sides, "duplicate-leakage", FAILED, "test rows [5]"),
        (windows_cut_before_the_split, "overlap-leakage", FAILED, "split the recordings first"),
        (equal_windows_of_two_classes, "conflicting-labels", FAILED, "train rows [0, 1]"),
        (dead_axis, "stuck-channels", FAILED, "train: leave"),
        (saturated_axis, "clipped-channels", FAILED, "test: leave"),
        (more_in_another_shape, "window-shape", FAILED, f"{GENERATED}: reshape"),
        (nan_in_more, "finite-values", FAILED, f"{GENERATED} row 9"),
        (unknown_label_in_more, "known-labels", FAILED, "correct y"),
        (more_in_the_wrong_unit, "value-range", FAILED, f"{GENERATED}: look for a wrong unit"),
        (person_of_test_in_more, "group-leakage", FAILED, f"group eve of {GENERATED}"),
        (window_of_test_in_more, "duplicate-leakage", FAILED, f"test rows [5] in {GENERATED}"),
        (more_overlaps_test, "overlap-leakage", FAILED, f"in {GENERATED}: split the recordings first"),
        (conflict_in_more, "conflicting-labels", FAILED, f"{GENERATED} rows [2, 4]"),
        (dead_axis_in_more, "stuck-channels", FAILED, f"{GENERATED}: leave"),
    ],
)
def test_bad_data_is_named_by_its_check(
    bad: Callable[[], Evidence], check: str, outcome: CheckOutcome, says: str
) -> None:
    checks = judge(bad())
    found = {answer.name: answer for answer in checks}[check]
    assert found.outcome is outcome
    assert says in found.detail
    assert found.observed
    assert found.allowed
    assert not passes(checks)


def test_healthy_data_passes_every_check() -> None:
    checks = judge(healthy())
    assert [check.name for check in checks if check.outcome is not CheckOutcome.PASSED] == []
    assert len(checks) == len(STRUCTURE) + len(CONTENT)


def test_healthy_further_datasets_pass_and_every_answer_about_them_names_them() -> None:
    checks = judge(with_more())
    assert [check.name for check in checks if check.outcome is not CheckOutcome.PASSED] == []
    about = [check.name for check in checks if GENERATED in check.observed]
    assert about == ["window-shape", "value-range", "group-leakage", "duplicate-leakage", "overlap-leakage"]


def test_a_further_dataset_is_not_judged_for_the_number_of_its_rows_and_classes() -> None:
    few = recordings(3, ("gen",), 6)
    assert passes(judge(replace(healthy(), more={GENERATED: replace(few, y=np.zeros(3, dtype=np.int64))})))
    assert passes(judge(replace(healthy(), more={GENERATED: Dataset(few.x[:0], few.y[:0], few.group[:0])})))


def test_content_is_not_judged_in_arrays_of_the_wrong_structure() -> None:
    assert len(judge(nan_in_test())) == len(STRUCTURE)


def test_stuck_channel_is_named_as_the_manifest_names_it() -> None:
    stuck = {check.name: check for check in judge(dead_axis())}["stuck-channels"]
    assert stuck.observed == "11.11% windows without any change in ay of train"


def test_pictures_may_have_still_corners() -> None:
    pictures = np.random.default_rng(0).integers(0, 16, (60, 8, 8, 1)).astype(np.float32)
    pictures[:, 0] = 0
    manifest = MANIFEST.model_copy(
        update={"input": MANIFEST.input.model_copy(update={"shape": (8, 8, 1), "minimum": 0, "maximum": 16})}
    )
    y = np.arange(30, dtype=np.int64) % 3
    train = Dataset(pictures[:30], y, np.zeros(30, dtype=np.int64))
    test = Dataset(pictures[30:], y, np.ones(30, dtype=np.int64))
    assert passes(judge(Evidence(manifest, train, test)))


def test_a_sensor_at_rest_in_train_and_test_is_no_overlap() -> None:
    rest = np.full((5, 40, 2), 9.81, dtype=np.float32)
    assert not shared_runs(rest, rest).any()


@given(shift=st.integers(0, 25), row=st.integers(0, 9))
def test_any_overlap_of_fifteen_samples_is_found(shift: int, row: int) -> None:
    recording = np.random.default_rng(row).normal(size=(80, 2)).astype(np.float32)
    train = np.random.default_rng(99).normal(size=(10, 40, 2)).astype(np.float32)
    train[row] = recording[:40]
    test = np.random.default_rng(98).normal(size=(3, 40, 2)).astype(np.float32)
    test[1] = recording[shift : shift + 40]
    assert shared_runs(train, test).tolist() == [False, True, False]


def test_a_window_hash_sees_every_value_and_its_place() -> None:
    x = np.arange(80, dtype=np.float32).reshape(1, 40, 2)
    variants = [x, x[:, ::-1], x[:, :, ::-1], x + 1, np.zeros_like(x), np.full_like(x, -0.0)]
    hashes = [int(window_hashes(np.ascontiguousarray(variant))[0]) for variant in variants]
    assert len(set(hashes)) == 5
    assert hashes[4] == hashes[5]
