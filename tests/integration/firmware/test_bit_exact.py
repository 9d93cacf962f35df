"""Firmware gives the bits of TensorFlow Lite for Microcontrollers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import image_board, image_boards
from shared.emulation.on_qemu import boot_qemu
from shared.emulation.on_unicorn import boot_unicorn

Images = Callable[..., bytes]
Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]

_ROWS = 20
_MLPERF_ROWS = 3


def _inputs(model: bytes, rows: int) -> NDArray[np.int8]:
    rng = np.random.default_rng(len(model))
    size = generate(model).input_bytes
    extremes = np.stack([np.full(size, -128), np.full(size, 127), np.zeros(size)])
    return np.concatenate([extremes, rng.integers(-128, 128, (rows, size))])[:rows].astype(np.int8)


@pytest.mark.parametrize(
    "name",
    [
        *("cnn_1d", "separable_1d", "residual_2d", "dilated_1d", "dense", "grouped_2d", "free_batch"),
        *("transposed", "branches_2d", "lstm", "gru", "autoencoder"),
    ],
)
def test_every_kind_of_layer_matches_on_unicorn(name: str, models: Path, make_image: Images, tflm: Reference) -> None:
    model = (models / f"{name}.tflite").read_bytes()
    rows = _inputs(model, _ROWS)
    board = boot_unicorn(make_image(model), image_board("cortex-m4"))
    assert [board.infer(row.tobytes()).output for row in rows] == tflm(model, rows)


@pytest.mark.parametrize("name", image_boards())
def test_every_core_matches(name: str, models: Path, make_image: Images, tflm: Reference) -> None:
    model = (models / "cnn_1d.tflite").read_bytes()
    rows = _inputs(model, 5)
    board = boot_unicorn(make_image(model, name), image_board(name))
    assert [board.infer(row.tobytes()).output for row in rows] == tflm(model, rows)


@pytest.mark.parametrize("name", image_boards())
def test_gcc_matches(name: str, models: Path, make_image: Images, tflm: Reference, gcc: Toolchain) -> None:
    model = (models / "cnn_1d.tflite").read_bytes()
    rows = _inputs(model, 5)
    board = boot_unicorn(make_image(model, name, gcc), image_board(name))
    assert [board.infer(row.tobytes()).output for row in rows] == tflm(model, rows)


@pytest.mark.parametrize("name", image_boards())
@pytest.mark.usefixtures("qemu")
def test_qemu_and_unicorn_agree_on_outputs_instructions_and_stack(name: str, models: Path, make_image: Images) -> None:
    model = (models / "cnn_1d.tflite").read_bytes()
    image = make_image(model, name)
    in_process = boot_unicorn(image, image_board(name), count_instructions=True)
    process = boot_qemu(image, image_board(name))
    try:
        for row in _inputs(model, 5):
            ours, theirs = in_process.infer(row.tobytes()), process.infer(row.tobytes())
            assert ours.output == theirs.output
            assert ours.instructions is not None
            assert theirs.instructions is not None
            # One tick of the timer is 0.6 instructions, and a difference of two readings is one tick off at most.
            assert abs(ours.instructions - theirs.instructions) <= 1
        assert in_process.stack_bytes() == process.stack_bytes()
        assert in_process.info == process.info
    finally:
        process.close()


@pytest.mark.parametrize("name", ["kws_ref_model", "vww_96_int8", "pretrainedResnet_quant"])
def test_mlperf_tiny_matches(name: str, mlperf: Path, make_image: Images, tflm: Reference) -> None:
    model = (mlperf / "models" / f"{name}.tflite").read_bytes()
    rows = _inputs(model, _MLPERF_ROWS)
    board = boot_unicorn(make_image(model), image_board("cortex-m4"))
    assert [board.infer(row.tobytes()).output for row in rows] == tflm(model, rows)


def test_keyword_spotting_matches_on_recordings(mlperf: Path, make_image: Images, tflm: Reference) -> None:
    model = (mlperf / "models" / "kws_ref_model.tflite").read_bytes()
    files = sorted((mlperf / "kws01").glob("*.bin"))[:20]
    rows = np.stack([np.frombuffer(file.read_bytes(), np.int8) for file in files])
    board = boot_unicorn(make_image(model), image_board("cortex-m4"))
    assert [board.infer(row.tobytes()).output for row in rows] == tflm(model, rows)


@pytest.mark.usefixtures("qemu")
def test_mlperf_tiny_on_qemu_matches_with_the_same_instructions(
    mlperf: Path, make_image: Images, tflm: Reference
) -> None:
    model = (mlperf / "models" / "kws_ref_model.tflite").read_bytes()
    row = _inputs(model, 4)[3:]
    image = make_image(model)
    process = boot_qemu(image, image_board("cortex-m4"))
    try:
        theirs = process.infer(row.tobytes())
    finally:
        process.close()
    ours = boot_unicorn(image, image_board("cortex-m4"), count_instructions=True).infer(row.tobytes())
    assert [theirs.output] == [ours.output] == tflm(model, row)
    assert ours.instructions is not None
    assert abs(ours.instructions - (theirs.instructions or 0)) <= 1
