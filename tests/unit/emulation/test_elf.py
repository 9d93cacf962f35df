"""What an ELF file puts into flash, and files that are none."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.emulation.elf import ElfFormatError, flash_image, loaded
from tests.data.elf import elf_of

WHOLE = elf_of([(0, b"vectors!"), (0x100, b"code"), (0x108, b"data")])


def test_gaps_are_as_erased_flash_and_what_comes_before_is_left_out() -> None:
    assert flash_image(WHOLE, 0x100, 64) == b"code\xff\xff\xff\xffdata"
    assert flash_image(WHOLE, 0x102, 64) == b"de\xff\xff\xff\xffdata"


def test_segments_in_any_order_give_the_same_bytes() -> None:
    assert flash_image(elf_of([(0x108, b"data"), (0x100, b"code")]), 0x100, 64) == flash_image(WHOLE, 0x100, 64)


def test_the_files_own_headers_at_the_start_of_a_segment_are_not_loaded() -> None:
    """GNU ld may map the file from its first byte, so that the code lies where it should."""
    elf = bytearray(elf_of([(0x100, b"code")]))
    struct.pack_into("<6I", elf, 56, 0, 0x100 - 84, 0x100 - 84, 88, 88, 5)
    assert [(part.address, part.data) for part in loaded(bytes(elf))] == [(0x100, b"code")]


@pytest.mark.parametrize(
    ("elf", "said"),
    [
        (b"", "it begins with nothing"),
        (b"\x7fELF\x02\x01" + WHOLE[6:], "not an ELF file of 32 bits"),
        (WHOLE[:60], "3 program headers of 32 bytes from byte 52 on, in 60 bytes"),
        (WHOLE[:-1], "what is loaded at 0x00000108 ends at byte 164 of 163"),
        (elf_of([(0xFFFF0000, b"far")]), "beyond the 64 bytes from 0x00000100 on"),
    ],
)
def test_what_is_no_firmware_is_named(elf: bytes, said: str) -> None:
    with pytest.raises(ElfFormatError, match=said):
        flash_image(elf, 0x100, 64)


@given(st.data())
def test_any_damage_gives_bytes_or_an_error(data: st.DataObject) -> None:
    at, size = data.draw(st.integers(0, len(WHOLE))), data.draw(st.integers(0, 40))
    elf = WHOLE[:at] + data.draw(st.binary(max_size=40)) + WHOLE[at + size :]
    with contextlib.suppress(ElfFormatError):
        assert len(flash_image(elf, 0x100, 64)) <= 64
