"""What goes wrong on a board is reported with its place, by either emulator."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact_builder.codegen import GeneratedModel, generate
from shared.boards import image_board
from shared.emulation import EmulationError
from shared.emulation.mcuboot_image import ImageFormatError
from shared.emulation.on_qemu import EmulatorMissingError, boot_qemu
from shared.emulation.on_unicorn import boot_unicorn

Images = Callable[..., bytes]

_FAULTS = {
    "a read from nowhere": "(void)*(volatile int *)0xD0000000;",
    "an undefined instruction": '__asm volatile("udf #0");',
    "a jump to nowhere": "((void (*)(void))0xD0000001)();",
    "a stack that never ends": "deeper(1);",
}
_HANG = 'for (;;) { __asm volatile(""); }'


@pytest.fixture
def broken(models: Path) -> Callable[[str], GeneratedModel]:
    """Make a model whose inference does something else."""
    model = generate((models / "dense.tflite").read_bytes())

    def make(body: str) -> GeneratedModel:
        source = f"""
            #include "model.h"
            static int8_t tensor[64];
            int8_t *model_input(void) {{ return tensor; }}
            const int8_t *model_output(void) {{ return tensor; }}
            int32_t model_output_milli(uint32_t element) {{ return tensor[element]; }}
            void model_reset(void) {{ }}
            __attribute__((noinline)) static int deeper(int x) {{
                volatile int room[64] = {{x}};
                return room[x & 1] + deeper(room[0] + 1) + room[1];
            }}
            int (*const keep)(int) = deeper;
            void model_invoke(void) {{ {body} }}
        """
        return dataclasses.replace(model, sources={**model.sources, "model.c": source})

    return make


@pytest.mark.parametrize("fault", _FAULTS)
def test_unicorn_names_the_place_of_a_fault(
    fault: str, broken: Callable[[str], GeneratedModel], make_image: Images
) -> None:
    board = boot_unicorn(make_image(broken(_FAULTS[fault])), image_board("cortex-m4"))
    with pytest.raises(EmulationError, match=r"faulted at pc 0x[0-9a-f]{8} \(called from 0x000[0-9a-f]{5}\)"):
        board.infer(bytes(board.info.input_bytes))


def test_unicorn_names_the_address_of_a_bad_access(broken: Callable[[str], GeneratedModel], make_image: Images) -> None:
    board = boot_unicorn(make_image(broken(_FAULTS["a read from nowhere"])), image_board("cortex-m4"))
    with pytest.raises(EmulationError, match="read of 4 bytes at 0xd0000000, outside the board's memory"):
        board.infer(bytes(board.info.input_bytes))


def test_memory_is_the_boards_own_and_no_larger(broken: Callable[[str], GeneratedModel], make_image: Images) -> None:
    small = image_board("cortex-m0plus")
    end = small.ram_address + small.ram_bytes
    board = boot_unicorn(make_image(broken(f"*(volatile int *){end:#x} = 1;"), small), small)
    with pytest.raises(EmulationError, match=f"write to 4 bytes at {end:#010x}"):
        board.infer(bytes(board.info.input_bytes))


def test_firmware_cannot_write_to_flash(broken: Callable[[str], GeneratedModel], make_image: Images) -> None:
    board = boot_unicorn(make_image(broken("*(volatile int *)0x10200 = 1;")), image_board("cortex-m4"))
    with pytest.raises(EmulationError, match="write to read-only 4 bytes at 0x00010200"):
        board.infer(bytes(board.info.input_bytes))


def test_a_hang_ends_with_the_place(broken: Callable[[str], GeneratedModel], make_image: Images) -> None:
    board = boot_unicorn(make_image(broken(_HANG)), image_board("cortex-m4"), timeout_s=0.5)
    with pytest.raises(EmulationError, match=r"hung: after 0\.5 s of processor time it was at pc 0x00010[0-9a-f]{3}"):
        board.infer(bytes(board.info.input_bytes))


@pytest.mark.parametrize("fault", ["a read from nowhere", "an undefined instruction", "a jump to nowhere"])
@pytest.mark.usefixtures("qemu")
def test_the_firmware_itself_names_the_place_of_a_fault_on_qemu(
    fault: str, broken: Callable[[str], GeneratedModel], make_image: Images
) -> None:
    board = boot_qemu(make_image(broken(_FAULTS[fault])), image_board("cortex-m4"))
    try:
        with pytest.raises(EmulationError, match=r"faulted at pc=0x[0-9a-f]{8}"):
            board.infer(bytes(board.info.input_bytes))
    finally:
        board.close()


@pytest.mark.usefixtures("qemu")
def test_a_hang_on_qemu_ends_and_leaves_no_process(broken: Callable[[str], GeneratedModel], make_image: Images) -> None:
    board = boot_qemu(make_image(broken(_HANG)), image_board("cortex-m4"), timeout_s=1.0)
    pid = board._console._qemu.pid  # type: ignore[attr-defined]
    with pytest.raises(EmulationError, match="hung: not ready after 1 s"):
        board.infer(bytes(board.info.input_bytes))
    board.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(EmulationError, match="closed"):
        board.infer(bytes(board.info.input_bytes))


def test_without_qemu_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmulatorMissingError, match="apt-get install qemu-system-arm"):
        boot_qemu(b"", image_board("cortex-m4"))


def test_a_damaged_image_does_not_boot(models: Path, make_image: Images) -> None:
    image = bytearray(make_image((models / "dense.tflite").read_bytes()))
    image[0x300] ^= 1
    with pytest.raises(ImageFormatError, match="damaged"):
        boot_unicorn(bytes(image), image_board("cortex-m4"))


def test_an_image_larger_than_the_slot_does_not_boot(models: Path, make_image: Images) -> None:
    image = make_image((models / "dense.tflite").read_bytes())
    board = image_board("cortex-m4").model_copy(update={"slot_bytes": 4096})
    with pytest.raises(EmulationError, match=re.escape("the slot of cortex-m4 4,096")):
        boot_unicorn(image, board)
