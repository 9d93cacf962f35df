"""The host's side of the protocol, against consoles that answer as told."""

import pytest

from shared.emulation import EmulationError
from shared.emulation.dut import DutBoard, parse_info
from shared.emulation.on_unicorn import _instructions_in

_INFO = (
    "model=sha256:ab input_bytes=4 output_bytes=2 input_scale=0.5 input_zero_point=-3 "
    "output_scale=0.00390625 output_zero_point=-128 arena_bytes=16"
)


class _Console:
    """Answers requests from a list."""

    def __init__(self, *answers: str) -> None:
        self.answers = [f"m-info-[{_INFO}]\r\n", *answers]
        self.requests: list[bytes] = []

    def exchange(self, request: bytes, answers: int) -> bytes:
        self.requests.append(request)
        return self.answers.pop(0).encode() + b"m-ready\r\n" * answers

    def close(self) -> None:
        self.answers.clear()


def _board(*answers: str, timer_hz: int | None = 25_000_000) -> DutBoard:
    return DutBoard("test 1", _Console(*answers), timer_hz=timer_hz)


def test_an_inference_is_one_exchange() -> None:
    console = _Console("m-load-done\r\nm-ticks-160\r\nm-output-[7f80]\r\n")
    inference = DutBoard("test 1", console, timer_hz=25_000_000).infer(b"%%%%")
    assert console.requests[1] == b"db bin 4%%%%%infer 1%output%"
    assert (inference.output, inference.instructions) == (b"\x7f\x80", 100)


def test_a_slower_timer_ticks_for_more_instructions() -> None:
    board = _board("m-ticks-160\r\nm-output-[7f80]\r\n", timer_hz=20_000_000)
    assert board.infer(bytes(4)).instructions == 125


def test_instructions_that_were_not_counted_are_not_reported() -> None:
    board = _board("m-ticks-0\r\nm-output-[7f80]\r\n", timer_hz=None)
    assert board.infer(bytes(4)).instructions is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("e-[no input is loaded]\r\n", "answered with an error: no input is loaded"),
        ("m-ticks-1\r\n", r"did not answer with m-output-\[…\]"),
        ("m-ticks-1\r\nm-output-[7f]\r\n", "1 output bytes instead of 2"),
        ("m-ticks-1\r\nm-output-[7f8x]\r\n", "no hexadecimal number"),
        ("m-output-[7f80]\r\n", "reported no ticks"),
        ("", "it said: m-ready"),
    ],
)
def test_an_answer_that_is_not_the_protocol_is_an_error(answer: str, error: str) -> None:
    with pytest.raises(EmulationError, match=error):
        _board(answer).infer(bytes(4))


@pytest.mark.parametrize("text", ["", "model=x", _INFO.replace("input_bytes=4", "input_bytes=four")])
def test_an_info_line_without_its_facts_is_an_error(text: str) -> None:
    with pytest.raises(EmulationError, match="info line lacks or garbles"):
        parse_info(text)


def test_wide_and_narrow_thumb_instructions_are_counted() -> None:
    narrow, wide = b"\x00\xbf", b"\x4f\xf0\x00\x00"
    assert _instructions_in(narrow * 3 + wide * 2 + narrow) == 6
