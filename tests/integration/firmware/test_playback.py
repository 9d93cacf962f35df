"""The firmware's reader of traces: windows with a hop, and what lines do to frames."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.artifact_builder.firmware.compiling import PLAYBACK
from shared.boards import image_board
from shared.emulation import EmulationError
from shared.emulation.dut import EmulatedDut
from shared.emulation.frames import frame, frames
from shared.emulation.on_qemu import boot_qemu
from shared.emulation.on_unicorn import boot_unicorn

Images = Callable[..., bytes]

_TRACE = np.random.default_rng(5).integers(-128, 128, 300, np.int8).tobytes()


@pytest.fixture
def image(models: Path, make_image: Images) -> Callable[[str], bytes]:
    return lambda board: make_image((models / "dense.tflite").read_bytes(), board, defines=(PLAYBACK,))


@pytest.fixture(scope="module")
def board(models: Path, make_image: Images) -> Iterator[EmulatedDut]:
    image = make_image((models / "dense.tflite").read_bytes(), defines=(PLAYBACK,))
    board = boot_unicorn(image, image_board("cortex-m4"))
    yield board
    board.close()


def window_outputs(board: EmulatedDut, trace: bytes, hop: int) -> list[bytes]:
    """Return what the board gives for each window when windows are loaded over the console."""
    size = board.info.input_bytes
    return [board.infer(trace[at : at + size]).output for at in range(0, len(trace) - size + 1, hop)]


def played(board: EmulatedDut, stream: bytes, hop: int) -> tuple[list[bytes], tuple[int, int, int]]:
    """Return the outputs of a trace's windows, and the frames that were whole, lost and damaged."""
    board.control.feed(stream)
    outputs = []
    step = board.info.input_bytes
    while (sensed := board.sense(step)).inference is not None:
        outputs.append(sensed.inference.output)
        step = hop
    return outputs, (sensed.whole, sensed.lost, sensed.damaged)


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "cortex-m33"])
@pytest.mark.parametrize("emulator", ["unicorn", "qemu"])
def test_windows_of_a_trace_are_those_loaded_over_the_console(
    name: str, emulator: str, image: Callable[[str], bytes], request: pytest.FixtureRequest
) -> None:
    if emulator == "qemu":
        request.getfixturevalue("qemu")
    boot = boot_qemu if emulator == "qemu" else boot_unicorn
    board = boot(image(name), image_board(name))
    try:
        for hop in (1, 7, board.info.input_bytes):
            outputs, counts = played(board, b"".join(frames(_TRACE)), hop)
            assert outputs == window_outputs(board, _TRACE, hop)
            assert counts == (len(list(frames(_TRACE))) - 1, 0, 0)
    finally:
        board.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trace=st.binary(min_size=1, max_size=200), payload_bytes=st.integers(1, 255), hop=st.integers(1, 8))
def test_any_trace_in_frames_of_any_size_gives_its_windows(
    board: EmulatedDut, trace: bytes, payload_bytes: int, hop: int
) -> None:
    outputs, (_, lost, damaged) = played(board, b"".join(frames(trace, payload_bytes=payload_bytes)), hop)
    assert outputs == window_outputs(board, trace, hop)
    assert (lost, damaged) == (0, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_frame_that_is_lost_or_has_a_flipped_bit_is_left_out_and_counted(
    board: EmulatedDut, data: st.DataObject
) -> None:
    parts = list(frames(_TRACE, payload_bytes=32))
    which = data.draw(st.integers(0, len(parts) - 2))
    rest = b"".join(part[4:-2] for index, part in enumerate(parts[:-1]) if index != which)
    flip = data.draw(st.one_of(st.none(), st.integers(8 * 2, 8 * (len(parts[which]) - 1) + 7)))
    if flip is None:
        damaged, parts[which] = 0, b""
    else:
        hurt = bytearray(parts[which])
        hurt[flip // 8] ^= 1 << flip % 8
        damaged, parts[which] = 1, bytes(hurt)
    outputs, counts = played(board, b"".join(parts), 8)
    assert outputs == window_outputs(board, rest, 8)
    assert counts == (len(parts) - 2, 1, damaged)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=64).filter(lambda noise: 0x7E not in noise))
def test_noise_before_a_trace_is_passed_over(board: EmulatedDut, noise: bytes) -> None:
    outputs, counts = played(board, noise + b"".join(frames(_TRACE)), 5)
    assert outputs == window_outputs(board, _TRACE, 5)
    assert counts[1:] == (0, 0)


def test_a_trace_that_breaks_off_is_an_error_and_a_reset_makes_the_board_whole(board: EmulatedDut) -> None:
    board.control.feed(frame(0, b"ab"))
    with pytest.raises(EmulationError, match="waits for input"):
        board.sense(board.info.input_bytes)
    board.control.reset()
    assert played(board, b"".join(frames(_TRACE)), 9)[0] == window_outputs(board, _TRACE, 9)


@pytest.mark.parametrize("hop", ["0", "9999", "x", ""])
def test_a_hop_that_is_none_is_refused(board: EmulatedDut, hop: str) -> None:
    with pytest.raises(EmulationError, match="sense takes the bytes to move on"):
        board.ask(f"sense {hop}%")


def test_firmware_for_fleets_has_no_reader(models: Path, make_image: Images) -> None:
    model = (models / "dense.tflite").read_bytes()
    board = boot_unicorn(make_image(model), image_board("cortex-m4"))
    with pytest.raises(EmulationError, match="unknown command"):
        board.sense(1)
    assert len(make_image(model)) < len(make_image(model, defines=(PLAYBACK,))) < len(make_image(model)) + 1000


def test_frames_have_room_for_255_bytes() -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes, not 256"):
        list(frames(b"x", payload_bytes=256))
