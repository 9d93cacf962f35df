"""The firmware's command line: the reference grammar, its limits, and the extensions."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.boards import image_board
from shared.emulation import EmulationError
from shared.emulation.dut import DutBoard
from shared.emulation.on_unicorn import boot_unicorn

Images = Callable[..., bytes]

_INPUT_BYTES = 600


@pytest.fixture
def board(models: Path, make_image: Images) -> DutBoard:
    image = make_image((models / "cnn_1d.tflite").read_bytes())
    return boot_unicorn(image, image_board("cortex-m4"), count_instructions=True)


def test_it_says_what_it_is(board: DutBoard) -> None:
    assert board.ask("name%") == ["m-name-dut-[edgeloop]"]
    profile = board.ask("profile%")
    assert profile[0] == "m-profile-[ULPMark for tinyML Firmware V0.0.1]"
    assert re.fullmatch(r"m-model-\[edgeloop-[0-9a-f]{8}\]", profile[1])
    assert board.info.input_bytes == _INPUT_BYTES
    assert (board.info.output_scale, board.info.output_zero_point) == (1 / 256, -128)
    assert board.emulator.startswith("unicorn ")


def test_an_input_in_hexadecimal_and_one_in_binary_give_the_same(board: DutBoard) -> None:
    tensor = np.random.default_rng(1).integers(-128, 128, _INPUT_BYTES).astype(np.int8).tobytes()
    assert board.ask(f"db load {_INPUT_BYTES}%") == [f"m-[Expecting {_INPUT_BYTES} bytes]"]
    for at in range(0, _INPUT_BYTES, 32):
        lines = board.ask(f"db {tensor[at : at + 32].hex()}%")
    assert lines == ["m-load-done"]
    assert board.ask("db print 3 597%") == [f"m-buffer-{tensor[597:].hex('-')}"]
    board.ask("infer 1%")
    in_hexadecimal = board.ask("output%")
    assert in_hexadecimal == [f"m-output-[{board.infer(tensor).output.hex()}]"]


def test_an_inference_reports_laps_and_results_as_the_reference_does(board: DutBoard) -> None:
    board.infer(bytes(_INPUT_BYTES))
    lines = board.ask("infer 2 1%")
    assert [re.sub(r"\d+(?=$)", "N", line) for line in lines[:7]] == [
        "m-warmup-start-N",
        "m-warmup-done",
        "m-infer-start-N",
        "m-lap-us-N",
        "m-lap-us-N",
        "m-infer-done",
        "m-ticks-N",
    ]
    begin, end = (int(line.removeprefix("m-lap-us-")) for line in lines[3:5])
    ticks = int(lines[6].removeprefix("m-ticks-"))
    assert ticks / 25 <= end - begin <= ticks / 25 * 1.05
    assert re.fullmatch(r"m-results-\[(0\.\d{3},){6}0\.\d{3}\]", lines[7])
    assert board.ask("results%") == lines[7:]
    shares = [float(share) for share in lines[7].removeprefix("m-results-[").removesuffix("]").split(",")]
    assert sum(shares) == pytest.approx(1.0, abs=0.03)


def test_the_same_inference_takes_the_same_instructions(board: DutBoard) -> None:
    first, second = (board.infer(bytes(_INPUT_BYTES)).instructions for _ in range(2))
    assert first is not None
    assert second is not None
    assert abs(first - second) <= 1
    assert 100_000 < first < 2_000_000


def test_stack_use_is_reported(board: DutBoard) -> None:
    before = board.stack_bytes()
    board.infer(bytes(_INPUT_BYTES))
    assert 0 < before <= board.stack_bytes() < image_board("cortex-m4").stack_bytes


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("fly%", "unknown command"),
        ("x" * 81 + "%", "at most 80 characters"),
        ("db load 601%", "the model's input has 600 bytes"),
        ("db load -1%", "the model's input has 600 bytes"),
        ("db load 99999999999999999999%", "the model's input has 600 bytes"),
        ("db load%", "the model's input has 600 bytes"),
        ("db bin 7%", "the model's input has 600 bytes"),
        ("db%", "unknown command; help% lists them"),
        ("db 00%", "more bytes than db load announced"),
        ("db print 1 601%", "inside the buffer"),
        ("db print x%", "inside the buffer"),
        ("infer 0%", "a count of at least 1"),
        ("infer 1 y%", "a count of at least 1"),
        ("infer 1%", "no input is loaded"),
        ("results%", "no inference has run yet"),
        ("output%", "no inference has run yet"),
    ],
)
def test_a_bad_command_gets_an_error_and_the_next_one_works(board: DutBoard, command: str, error: str) -> None:
    with pytest.raises(EmulationError, match=re.escape(error)):
        board.ask(command)
    assert board.ask("name%") == ["m-name-dut-[edgeloop]"]


@pytest.mark.parametrize(("command", "error"), [("db 0%", "pairs of hexadecimal"), ("db zz%", "pairs of hexadecimal")])
def test_bad_digits_are_refused(board: DutBoard, command: str, error: str) -> None:
    board.ask(f"db load {_INPUT_BYTES}%")
    with pytest.raises(EmulationError, match=error):
        board.ask(command)


def test_more_bytes_than_announced_are_refused(board: DutBoard) -> None:
    board.ask(f"db load {_INPUT_BYTES}%")
    for _ in range(_INPUT_BYTES // 30):
        board.ask(f"db {'ab' * 30}%")
    with pytest.raises(EmulationError, match="more bytes than db load announced"):
        board.ask("db 00%")


def test_line_ends_and_spaces_between_commands_do_no_harm(board: DutBoard) -> None:
    assert board.ask("\r\n  name  %") == ["m-name-dut-[edgeloop]"]
    assert board.ask(" %") == []


def test_help_lists_every_command(board: DutBoard) -> None:
    listed = {line.split("%")[0].split()[0] for line in board.ask("help%")}
    others = {"name", "profile", "info", "timestamp", "db", "infer", "results", "output", "reset", "stack"}
    assert listed == {*others, "help"}


def test_a_tensor_of_another_size_is_the_callers_mistake(board: DutBoard) -> None:
    with pytest.raises(ValueError, match="600 bytes; 3 were given"):
        board.infer(b"abc")
