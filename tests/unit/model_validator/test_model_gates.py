"""The gates of a model, each passed exactly and missed by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.model_validator.domain import Answers, Fit, LibraryFit, judge, library_sizes
from shared.boards import LibraryBoard, board_named, image_board
from shared.events import Blob, Check, CheckOutcome
from shared.releases.gates import not_passed, passes, wilson_interval
from shared.releases.manifest import Budget, Gates
from shared.releases.release import Firmware, Library

GOLDEN = b"\x10\x20\x30"
M4 = image_board("cortex-m4")


def _nano() -> LibraryBoard:
    board = board_named("arduino-nano-33-iot")
    assert isinstance(board, LibraryBoard)
    return board


NANO = _nano()


def outputs(classes: np.ndarray, dtype: type = np.int8) -> np.ndarray:
    scores: np.ndarray = np.eye(3, dtype=dtype)[classes]
    return scores


def answers(rows: int = 100, int8_wrong: int = 0, float_wrong: int = 0) -> Answers:
    labels = np.arange(rows, dtype=np.int64) % 3
    int8, float32 = labels.copy(), labels.copy()
    int8[:int8_wrong] = (int8[:int8_wrong] + 1) % 3
    float32[:float_wrong] = (float32[:float_wrong] + 1) % 3
    return Answers(labels, outputs(int8), outputs(float32, np.float32), GOLDEN)


def firmware(flash_bytes: int = 30_000, ram_bytes: int = 9_000) -> Firmware:
    blob = Blob(digest="sha256:" + "0" * 64, size_bytes=1, media_type="x")
    return Firmware(
        board="cortex-m4",
        toolchain="zig 0.17 -O2",
        image=blob,
        elf=blob,
        sources=blob,
        image_hash="00" * 32,
        version="1.0.0+1",
        flash_bytes=flash_bytes,
        ram_bytes=ram_bytes,
        arena_bytes=4_000,
    )


def checks(
    found: Answers, *, gates: Gates | None = None, fit: Fit | None = None, golden: bytes = GOLDEN
) -> dict[str, Check]:
    judged = judge(found, gates or Gates(accuracy=0.9), 3, golden, [fit or Fit(M4, Budget(), firmware())])
    return {check.name: check for check in judged}


def test_a_sound_model_passes_every_gate() -> None:
    judged = checks(answers(int8_wrong=10, float_wrong=10))
    assert passes(judged.values())
    assert judged["int8-accuracy"].observed == "0.9000 (90 of 100; 95 % interval 0.8256 to 0.9448; tflm)"


@pytest.mark.parametrize(
    ("found", "gates", "failing"),
    [
        (answers(int8_wrong=11, float_wrong=11), Gates(accuracy=0.9), "int8-accuracy"),
        (answers(int8_wrong=4, float_wrong=0), Gates(accuracy=0.9), "accuracy-loss"),
        (answers(int8_wrong=6, float_wrong=6), Gates(accuracy=0.9, agreement=1), None),
        (answers(int8_wrong=3, float_wrong=0), Gates(accuracy=0.9, agreement=0.98), "int8-float32-agreement"),
    ],
)
def test_a_gate_that_is_missed_is_the_only_one_to_fail(found: Answers, gates: Gates, failing: str | None) -> None:
    failed = [name for name, check in checks(found, gates=gates).items() if check.outcome is CheckOutcome.FAILED]
    assert failed == ([failing] if failing else [])


def test_a_loss_of_exactly_the_limit_is_allowed() -> None:
    assert passes(checks(answers(int8_wrong=3), gates=Gates(accuracy=0.9, accuracy_loss=0.03)).values())


def test_a_quantised_model_may_be_better_than_its_original() -> None:
    assert checks(answers(float_wrong=5))["accuracy-loss"].outcome is CheckOutcome.PASSED


@pytest.mark.parametrize("rows", [0, 29])
def test_too_few_rows_are_insufficient_evidence_and_do_not_pass(rows: int) -> None:
    judged = checks(answers(rows=rows))
    assert judged["enough-rows"].outcome is CheckOutcome.INSUFFICIENT_EVIDENCE
    assert not passes(judged.values())


def test_a_model_without_an_output_for_each_label_fails() -> None:
    found = answers()
    narrow = Answers(found.labels, found.int8[:, :2], found.float32, GOLDEN)
    assert checks(narrow)["output-classes"].outcome is CheckOutcome.FAILED


def test_a_model_that_was_int8_from_the_start_passes_and_says_what_was_not_judged() -> None:
    found = answers(int8_wrong=5)
    judged = checks(Answers(found.labels, found.int8, None, GOLDEN))
    assert passes(judged.values())
    assert "is not judged" in judged["float32-reference"].detail
    assert not {"accuracy-loss", "int8-float32-agreement"} & set(judged)


def test_another_golden_output_fails() -> None:
    assert checks(answers(), golden=b"\x10\x20\x31")["golden-vector"].outcome is CheckOutcome.FAILED


@pytest.mark.parametrize(
    ("fit", "failing", "says"),
    [
        (Fit(M4, Budget(), firmware(flash_bytes=M4.slot_bytes + 1)), "flash-cortex-m4", "1 bytes too many"),
        (Fit(M4, Budget(flash_bytes=29_999), firmware()), "flash-cortex-m4", "1 bytes too many"),
        (Fit(M4, Budget(), firmware(ram_bytes=M4.ram_bytes - M4.stack_bytes + 1)), "ram-cortex-m4", "1 bytes too"),
        (Fit(M4, Budget(ram_bytes=8_999), firmware()), "ram-cortex-m4", "1 bytes too many"),
        (Fit(M4, Budget(), None), "firmware-cortex-m4", "build the commit again"),
    ],
)
def test_firmware_that_does_not_fit_its_board_fails(fit: Fit, failing: str, says: str) -> None:
    check = checks(answers(), fit=fit)[failing]
    assert check.outcome is CheckOutcome.FAILED
    assert says in check.detail


def test_firmware_of_exactly_the_budget_fits() -> None:
    fit = Fit(M4, Budget(flash_bytes=30_000, ram_bytes=9_000), firmware())
    assert passes(checks(answers(), fit=fit).values())


def library(kind: str = "arduino", flash_bytes: int | None = 30_000) -> Library:
    blob = Blob.of(b"zip", media_type="application/zip", name="library.zip")
    ram_bytes = None if flash_bytes is None else 9_000
    return Library(
        board=NANO.name,
        kind=kind,
        target="",
        archive=blob,
        flash_bytes=flash_bytes,
        ram_bytes=ram_bytes,
        arena_bytes=9_000,
        toolchain="",
        reason="",
    )


@pytest.mark.parametrize(
    ("fit", "failing"),
    [
        (LibraryFit(NANO, Budget(), ()), "library-arduino-nano-33-iot-arduino"),
        (LibraryFit(NANO, Budget(), (library("zephyr"),)), "library-arduino-nano-33-iot-arduino"),
        (LibraryFit(NANO, Budget(), (library(flash_bytes=253_953),)), "flash-arduino-nano-33-iot-arduino"),
        (LibraryFit(NANO, Budget(ram_bytes=8_999), (library(),)), "ram-arduino-nano-33-iot-arduino"),
    ],
)
def test_a_library_that_is_missing_or_too_large_fails(fit: LibraryFit, failing: str) -> None:
    assert [check.name for check in not_passed(library_sizes(fit))] == [failing]


def test_a_library_of_unknown_size_has_only_to_be_there() -> None:
    (check,) = library_sizes(LibraryFit(NANO, Budget(flash_bytes=1), (library(flash_bytes=None),)))
    assert check.outcome is CheckOutcome.PASSED


def test_wilson_interval_equals_a_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263.
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@given(rows=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_estimate_and_stays_within_zero_and_one(rows: int, share: float) -> None:
    correct = round(share * rows)
    low, high = wilson_interval(correct, rows)
    assert 0 <= low <= correct / rows + 1e-12
    assert correct / rows - 1e-12 <= high <= 1
