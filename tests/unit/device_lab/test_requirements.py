"""Requirements as text."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.boards import image_board
from shared.events.lab import BoardClass
from shared.lab import RequirementError, parse_requirement
from shared.lab.board import traits_of

M4 = traits_of(image_board("cortex-m4"), "here", BoardClass.EMULATED)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("any", True),
        ("", True),
        ("core in cortex-m4,cortex-m7", True),
        ("core = cortex-m7", False),
        ("class=emulated; place=here", True),
        ("ram>=64k; flash>=128K", True),
        ("ram >= 1000M", False),
        ("clock<=1M", False),
        ("sensor has microphone", True),
        ("sensor has camera", False),
        ("radio has ble", False),
    ],
)
def test_conditions_hold_or_not(text: str, holds: bool) -> None:
    traits = replace(M4, sensors=("MP34DT05: microphone",))
    assert parse_requirement(text).holds(traits) is holds


def test_sizes_count_in_binary_and_clocks_in_decimal_units() -> None:
    at = replace(M4, ram_bytes=64 * 1024, clock_hz=64_000)
    assert parse_requirement("ram>=64k; ram<=64k; clock>=64k; clock<=64k").holds(at)
    assert not parse_requirement("ram>=65k").holds(at)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ram>=64q", "condition 1: found '64q'; allowed is a whole number, with k or M, after ram"),
        ("core=cortex-m4; speed>=3", "condition 2: found speed; allowed is one of ram, flash"),
        ("ram has 64k", "found ram has 64k; allowed is ram with >= or <="),
        ("sensor>=1", "allowed is sensor with has"),
        ("core in cortex-m4,,", "found ''; allowed is names"),
        ("nonsense", "allowed is a trait, one of"),
        ("ram>=1;", "condition 2: found "),
    ],
)
def test_what_nobody_can_read_is_told_with_place_found_allowed_and_next(text: str, said: str) -> None:
    with pytest.raises(RequirementError) as told:
        parse_requirement(text)
    assert said in str(told.value)
    assert "Next: write it like `ram>=64k" in str(told.value)


CONDITIONS = st.one_of(
    st.tuples(st.sampled_from(["ram", "flash", "clock"]), st.sampled_from([">=", "<="]), st.integers(0, 10**9)),
    st.tuples(
        st.sampled_from(["board", "core", "place"]),
        st.just(" in "),
        st.from_regex(r"[a-z0-9]{1,5}(,[a-z]{1,3})?", fullmatch=True),
    ),
)


@given(st.lists(CONDITIONS, max_size=4))
def test_a_requirement_reads_back_from_its_own_text(conditions: list[tuple[str, str, object]]) -> None:
    first = parse_requirement(";".join(f"{trait}{operator}{value}" for trait, operator, value in conditions))
    assert parse_requirement(str(first)) == first


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(RequirementError):
        parse_requirement(text).holds(M4)
