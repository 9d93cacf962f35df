"""The board catalogue: every file loads, and its facts are possible."""

from itertools import pairwise

import pytest
from pydantic import ValidationError

from shared.boards import (
    Board,
    Core,
    ImageBoard,
    LibraryBoard,
    NoImageError,
    SafetyClass,
    UnknownBoardError,
    board_named,
    catalogue,
    image_board,
    image_boards,
)

_PAGE_BYTES = 0x1000


@pytest.fixture(params=catalogue())
def board(request: pytest.FixtureRequest) -> Board:
    return board_named(request.param)


def test_the_course_s_boards_and_the_emulated_ones_are_there() -> None:
    libraries = {name for name, board in catalogue().items() if isinstance(board, LibraryBoard)}
    assert set(image_boards()) == {"cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33"}
    assert libraries == {
        "himax-we-i-plus",
        "arduino-nano-33-ble-sense",
        "sparkfun-edge-2",
        "espressif-esp-eye",
        "arduino-mkr-wifi-1010",
        "arduino-nano-33-iot",
        "arduino-portenta-h7",
    }


def test_a_file_is_called_like_its_board(board: Board) -> None:
    assert catalogue()[board.name] is board


def test_two_slots_behind_a_bootloader_fit_the_flash() -> None:
    for board in image_boards().values():
        assert board.safety_class is SafetyClass.A
        bootloader_bytes = board.slot_address - board.emulation.reset_address
        assert bootloader_bytes > 0
        assert bootloader_bytes + 2 * board.slot_bytes <= board.flash_bytes


def test_memory_and_peripherals_are_whole_pages_apart() -> None:
    for board in image_boards().values():
        regions = sorted(
            (
                (board.slot_address, board.slot_bytes),
                (board.ram_address, board.ram_bytes),
                (board.uart_address, _PAGE_BYTES),
                (board.sensor_uart_address, _PAGE_BYTES),
                (board.timer_address, _PAGE_BYTES),
            )
        )
        assert all(address % _PAGE_BYTES == 0 for address, _ in regions)
        assert all(address + size <= following for (address, size), (following, _) in pairwise(regions))
        assert board.stack_bytes < board.ram_bytes // 4


def test_a_timer_tick_is_a_whole_number_of_nanoseconds_and_a_microsecond_of_ticks() -> None:
    for board in image_boards().values():
        assert 1_000_000_000 % board.peripheral_hz == 0
        assert board.peripheral_hz % 1_000_000 == 0


def test_what_tools_leave_to_a_program_is_part_of_the_memory() -> None:
    for board in catalogue().values():
        for library in board.libraries if isinstance(board, LibraryBoard) else ():
            assert library.program_bytes <= board.flash_bytes
            assert library.data_bytes <= board.ram_bytes


def test_a_kind_of_library_stands_once_a_board() -> None:
    for board in catalogue().values():
        kinds = [library.kind for library in board.libraries] if isinstance(board, LibraryBoard) else []
        assert len(set(kinds)) == len(kinds)


def test_equal_microcontrollers_have_equal_facts() -> None:
    samd21 = [board for board in catalogue().values() if board.mcu == "Microchip SAMD21G18A"]
    assert len(samd21) == 2
    assert len({(board.core, board.clock_hz, board.flash_bytes, board.ram_bytes) for board in samd21}) == 1


def test_every_core_of_an_image_is_a_cortex_m() -> None:
    assert {board.core for board in image_boards().values()} == {core for core in Core if core.startswith("cortex-m")}


def test_a_misspelt_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownBoardError, match=r"'cortex-m5'; the catalogue has arduino-mkr-wifi-1010, .*cortex-m4"):
        board_named("cortex-m5")


def test_where_an_image_is_needed_a_library_board_says_why_it_has_none() -> None:
    with pytest.raises(NoImageError, match=r"gets a library, not an image: ESP-IDF, .* cortex-m0plus, cortex-m33"):
        image_board("espressif-esp-eye")


def test_an_unknown_key_is_refused() -> None:
    facts = image_board("cortex-m4").model_dump()
    with pytest.raises(ValidationError, match="flash_size"):
        ImageBoard.model_validate({**facts, "flash_size": 1})
