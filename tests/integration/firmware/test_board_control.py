"""What a lab does to a board from outside, the same on both emulators."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from services.artifact_builder.codegen import GeneratedModel, generate
from shared.boards import image_board
from shared.emulation import EmulationError
from shared.emulation.dut import EmulatedDut
from shared.emulation.on_qemu import boot_qemu
from shared.emulation.on_unicorn import boot_unicorn

Images = Callable[..., bytes]
Boot = Callable[..., EmulatedDut]

_WRITES_TO_FLASH = "*(volatile unsigned *)0x00070000 = 0x600DF1A5u;"


@pytest.fixture(params=["unicorn", "qemu"])
def boot(request: pytest.FixtureRequest) -> Boot:
    if request.param == "qemu":
        request.getfixturevalue("qemu")
        return boot_qemu
    return boot_unicorn


@pytest.fixture
def image(models: Path, make_image: Images) -> bytes:
    return make_image((models / "dense.tflite").read_bytes())


@pytest.fixture
def board(boot: Boot, image: bytes) -> Iterator[EmulatedDut]:
    board = boot(image, image_board("cortex-m4"), timeout_s=20.0)
    yield board
    board.close()


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_every_core_boots_again_after_a_reset_and_after_a_power_cut(
    name: str, boot: Boot, models: Path, make_image: Images
) -> None:
    image = make_image((models / "dense.tflite").read_bytes(), name)
    board = boot(image, image_board(name))
    try:
        tensor = bytes(board.info.input_bytes)
        first = board.infer(tensor)
        board.control.reset()
        after_reset = board.infer(tensor)
        board.control.power_cut()
        board.control.power_on()
        for inference in (after_reset, board.infer(tensor)):
            assert inference.output == first.output
            # QEMU's timer ticks every 5/8 of an instruction, and the phase differs between boots.
            assert abs((inference.instructions or 0) - (first.instructions or 0)) <= 2
    finally:
        board.close()


def test_a_reset_forgets_what_was_loaded(board: EmulatedDut) -> None:
    board.infer(bytes(board.info.input_bytes))
    board.control.reset()
    with pytest.raises(EmulationError, match="no inference has run yet"):
        board.ask("output%")


def test_nothing_answers_without_a_supply(board: EmulatedDut) -> None:
    board.control.power_cut()
    with pytest.raises(EmulationError, match="no supply"):
        board.ask("name%")
    with pytest.raises(EmulationError, match="no supply"):
        board.control.reset()
    board.control.power_on()
    assert board.ask("name%") == ["m-name-dut-[edgeloop]"]
    with pytest.raises(EmulationError, match="has its supply already"):
        board.control.power_on()


@contextmanager
def impatient(board: EmulatedDut) -> Iterator[None]:
    """Wait only shortly for what is not to come; what is to come may take its time on a loaded machine."""
    console = cast("Any", board._console)
    waiting = getattr(console, "_talk", console)
    patience_s, waiting._timeout_s = waiting._timeout_s, 0.2
    yield
    waiting._timeout_s = patience_s


def test_a_stopped_core_answers_late_and_not_in_place_of_the_next_answer(board: EmulatedDut) -> None:
    board.control.hang()
    with impatient(board), pytest.raises(EmulationError, match="the firmware hung"):
        board.ask("profile%")
    board.control.resume()
    assert board.ask("name%") == ["m-name-dut-[edgeloop]"]


def test_a_reset_ends_a_hang_of_the_firmware(boot: Boot, models: Path, make_image: Images) -> None:
    stuck = _with_entry(models, 'for (;;) { __asm volatile(""); }')
    board = boot(make_image(stuck), image_board("cortex-m4"))
    try:
        with impatient(board), pytest.raises(EmulationError, match="the firmware hung"):
            board.infer(bytes(board.info.input_bytes))
        board.control.reset()
        assert board.ask("name%") == ["m-name-dut-[edgeloop]"]
    finally:
        board.close()


def test_flash_holds_the_image_and_is_erased_after_it(board: EmulatedDut, image: bytes) -> None:
    flash = board.control.flash()
    assert len(flash) == image_board("cortex-m4").slot_bytes
    assert flash.startswith(image)
    assert set(flash[len(image) :]) == {0xFF}


@pytest.mark.usefixtures("qemu")
def test_what_firmware_writes_to_flash_outlives_resets_and_power_cuts(models: Path, make_image: Images) -> None:
    board = boot_qemu(make_image(_with_entry(models, _WRITES_TO_FLASH)), image_board("cortex-m4"))
    at = 0x70000 - image_board("cortex-m4").slot_address
    try:
        assert board.control.flash()[at : at + 4] == b"\xff" * 4
        board.infer(bytes(board.info.input_bytes))
        for boots in ((board.control.reset,), (board.control.power_cut, board.control.power_on)):
            for control in boots:
                control()
            assert board.control.flash()[at : at + 4] == bytes.fromhex("a5f10d60")
    finally:
        board.close()


def _with_entry(models: Path, body: str) -> GeneratedModel:
    """Return a model that does something else before every inference."""
    model = generate((models / "dense.tflite").read_bytes())
    source = model.sources["model.c"]
    entry = "void model_invoke(void)\n{\n"
    assert entry in source
    return dataclasses.replace(
        model, sources={**model.sources, "model.c": source.replace(entry, f"{entry}    {body}\n")}
    )


def test_any_order_of_controls_leaves_a_board_that_answers_as_its_state_says(boot: Boot, image: bytes) -> None:
    class Machine(RuleBasedStateMachine):
        """A board and what is known of it: supplied, stopped, closed."""

        def __init__(self) -> None:
            super().__init__()
            self.board = boot(image, image_board("cortex-m4"))
            self.on, self.stopped = True, False
            self.golden: bytes = b""

        @initialize()
        def know_the_answer(self) -> None:
            self.golden = self.board.infer(bytes(self.board.info.input_bytes)).output

        @rule()
        def ask(self) -> None:
            tensor = bytes(self.board.info.input_bytes)
            if self.on and not self.stopped:
                assert self.board.infer(tensor).output == self.golden
            else:
                hung_or_off = pytest.raises(EmulationError, match="no supply" if not self.on else "hung")
                with impatient(self.board), hung_or_off:
                    self.board.infer(tensor)

        @precondition(lambda self: self.on)
        @rule(control=st.sampled_from(["hang", "resume", "reset"]))
        def act(self, control: str) -> None:
            getattr(self.board.control, control)()
            self.stopped = control == "hang"

        @rule()
        def switch(self) -> None:
            (self.board.control.power_cut if self.on else self.board.control.power_on)()
            self.on, self.stopped = not self.on, False

        def teardown(self) -> None:
            self.board.close()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
