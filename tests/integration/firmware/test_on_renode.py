"""Real firmware behind Renode's adapter: on a simulator of its monitor, and on Renode itself where it is installed."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from services.artifact_builder.measuring import probing_inputs
from shared.boards import image_board
from shared.emulation import EmulationError
from shared.emulation.dut import EmulatedDut
from shared.emulation.frames import frames
from shared.emulation.on_renode import boot_renode
from shared.emulation.on_unicorn import boot_unicorn
from shared.inference.tflm import tflm_outputs
from tests.support import ROOT

Images = Callable[..., bytes]
M4 = image_board("cortex-m4")


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `renode` on the PATH that is a simulator."""
    program = tmp_path / "bin" / "renode"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.renode_simulator "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.fixture
def image(models: Path, make_image: Images) -> bytes:
    return make_image((models / "dense.tflite").read_bytes())


@pytest.fixture
def board(simulated: None, image: bytes) -> Iterator[EmulatedDut]:  # noqa: ARG001 - it is on the PATH
    board = boot_renode(image, M4, timeout_s=60.0)
    yield board
    board.close()


def require_the_references_bits(board: EmulatedDut, tflite: bytes, rows: int = 4) -> None:
    inputs = probing_inputs(board.info.input_bytes, rows, seed=3)
    outputs = [np.frombuffer(board.infer(row.tobytes()).output, np.int8) for row in inputs]
    assert np.array_equal(outputs, tflm_outputs(tflite, inputs).reshape(rows, -1))


def test_firmware_boots_answers_and_is_counted(board: EmulatedDut, models: Path, image: bytes) -> None:
    require_the_references_bits(board, (models / "dense.tflite").read_bytes())
    tensor = bytes(board.info.input_bytes)
    counting = boot_unicorn(image, M4, count_instructions=True)
    # Unicorn's timer ticks every 5/8 of an instruction, Renode's once for each.
    assert board.infer(tensor).instructions == pytest.approx(counting.infer(tensor).instructions, abs=1)
    counting.close()


def test_resets_and_power_cuts_boot_it_again(board: EmulatedDut, models: Path) -> None:
    tflite = (models / "dense.tflite").read_bytes()
    board.infer(bytes(board.info.input_bytes))
    board.control.reset()
    require_the_references_bits(board, tflite, rows=1)
    board.control.power_cut()
    with pytest.raises(EmulationError, match="no supply"):
        board.ask("name%")
    board.control.power_on()
    require_the_references_bits(board, tflite, rows=1)


def test_a_stopped_core_answers_late_and_a_reset_brings_it_back(
    board: EmulatedDut, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.control.hang()
    with monkeypatch.context() as impatient:
        impatient.setattr(board._console._talk, "_timeout_s", 0.2)  # type: ignore[attr-defined]
        with pytest.raises(EmulationError, match=r"the firmware hung: not ready after 0\.2 s"):
            board.ask("name%")
    board.control.resume()
    assert board.ask("profile%")[0].startswith("m-profile")
    board.control.hang()
    board.control.reset()
    assert board.ask("name%")[0].startswith("m-name")


def test_recorded_data_arrives_at_the_second_uart(simulated: None, models: Path, make_image: Images) -> None:  # noqa: ARG001
    tflite = (models / "dense.tflite").read_bytes()
    board = boot_renode(make_image(tflite, defines=("EL_PLAYBACK",)), M4)
    window = probing_inputs(board.info.input_bytes, 1, seed=4)
    board.control.feed(b"".join(frames(window.tobytes())))
    sensed = board.sense(board.info.input_bytes)
    assert sensed.inference is not None
    assert sensed.inference.output == tflm_outputs(tflite, window).tobytes()
    board.close()


def test_a_machine_that_renode_refuses_is_an_error_with_its_words(simulated: None, image: bytes) -> None:  # noqa: ARG001
    elsewhere = M4.model_copy(update={"uart_address": 0x4000_6000})
    with pytest.raises(EmulationError, match=r"Renode refused 'include @board\.resc'.*LoadPlatformDescription"):
        boot_renode(image, elsewhere)


def test_a_renode_that_does_not_start_is_an_error_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: bytes
) -> None:
    program = tmp_path / "renode"
    program.write_text("#!/bin/sh\necho no mono here >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(EmulationError, match="no mono here"):
        boot_renode(image, M4)


@pytest.mark.skipif(which("renode") is None, reason="needs renode on the PATH: github.com/renode/renode/releases")
def test_renode_itself_gives_the_references_bits_and_unicorns_count(image: bytes, models: Path) -> None:
    board = boot_renode(image, M4)
    try:
        require_the_references_bits(board, (models / "dense.tflite").read_bytes())
        tensor = bytes(board.info.input_bytes)
        counting = boot_unicorn(image, M4, count_instructions=True)
        assert board.infer(tensor).instructions == pytest.approx(counting.infer(tensor).instructions, rel=1e-3)
        board.control.reset()
        require_the_references_bits(board, (models / "dense.tflite").read_bytes(), rows=1)
    finally:
        board.close()
