"""Hardware maps of Twister: read, locked together, written back with all that we do not know."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.interop.twister import HardwareMapError, MappedBoard, by_lock, read_map, write_map

RACK = """\
# rack 3, upper shelf
- connected: true
  id: 0240000026334e450015400f5e0e000b4eb1000097969900
  platform: frdm_k64f
  product: DAPLink CMSIS-DAP
  runner: pyocd
  serial: /dev/ttyACM9
  baud: 9600
  fixtures: [ring_buffer, 'sensor:imu']  # wired by hand
  pre_script: /usr/local/bin/power-on
  script_param: {pre_script_timeout: 30}
- connected: false
  available: false
  id: '000683759358'
  platform: [nrf52840dk/nrf52840, nrf52840dk/nrf52811]
  product: J-Link
  runner: nrfjprog
  serial_pty: "socat STDIO TCP:rack3:5000"
  probe_id: '683759358'
  x-room: B12
- connected: true
  id: '000683759358'
  platform: nrf52840dk/nrf52833
  product: J-Link
  runner: jlink
  serial: null
"""
ONE = "- {connected: true, id: a, platform: p, product: q, runner: r}\n"


def test_a_map_is_read() -> None:
    first, second, third = read_map(RACK)
    assert (first.platforms, first.baud, first.fixtures) == (("frdm_k64f",), 9600, ("ring_buffer", "sensor:imu"))
    assert second.platforms == ("nrf52840dk/nrf52840", "nrf52840dk/nrf52811")
    assert [board.usable for board in (first, second, third)] == [True, False, False]


def test_entries_with_one_id_are_one_board() -> None:
    locks = by_lock(read_map(RACK))
    assert [len(group) for group in locks.values()] == [1, 2]
    assert [board.runner for board in locks["000683759358"]] == ["nrfjprog", "jlink"]


def test_unknown_keys_and_comments_of_entries_survive_a_round_trip() -> None:
    written = write_map(read_map(RACK))
    assert read_map(written) == read_map(RACK)
    for kept in ("x-room: B12", "pre_script: /usr/local/bin/power-on", "# wired by hand", "'000683759358'"):
        assert kept in written


def test_a_change_is_written_and_nothing_else() -> None:
    before = read_map(RACK)
    after = read_map(write_map([replace(before[0], serial="/dev/ttyACM1", fixtures=()), *before[1:]]))
    assert (after[0].serial, after[0].fixtures) == ("/dev/ttyACM1", ())
    assert after[0].raw is not None
    assert after[0].raw["script_param"] == {"pre_script_timeout": 30}
    assert after[1:] == before[1:]


WORD = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)


@given(
    st.lists(
        st.builds(
            MappedBoard,
            lock=WORD,
            platforms=st.lists(WORD, min_size=1, max_size=3).map(tuple),
            product=WORD,
            runner=WORD,
            connected=st.booleans(),
            available=st.booleans(),
            serial=st.just("") | WORD,
            serial_pty=st.just("") | WORD,
            baud=st.integers(1, 4_000_000),
            probe_id=st.just("") | WORD,
            fixtures=st.lists(WORD, max_size=3).map(tuple),
            notes=st.just("") | WORD,
        ),
        max_size=4,
    )
)
def test_boards_of_our_own_come_back(boards: list[MappedBoard]) -> None:
    assert [replace(board, raw=None) for board in read_map(write_map(boards))] == boards


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boards: 3", "found a CommentedMap; allowed is a list of boards"),
        ("- 7", "map.yml:1: found 7"),
        ("- [", "map.yml:1: no YAML"),
        ("- id: 2026-13-45", "map.yml: no YAML: month must be in 1..12"),
        ("- {id: a, id: b}", "map.yml:1: no YAML: duplicate key"),
        (ONE + "- {connected: true, platform: p, product: q, runner: r}", "map.yml:2: a board without `id`"),
        (ONE.replace("id: a", "id: 683759358"), "write it in quotes: id: '683759358'"),
        (ONE.replace("connected: true", "connected: maybe"), "connected: found 'maybe'; allowed is true or false"),
        (ONE.replace("platform: p", "platform: 7"), "platform: found 7; allowed is a text or a list"),
        (ONE.replace("runner: r", "runner: r, baud: true"), "baud: found True; allowed is a whole number"),
    ],
)
def test_a_map_that_twister_would_refuse_is_explained(text: str, said: str) -> None:
    with pytest.raises(HardwareMapError) as refused:
        read_map(text, "map.yml")
    assert said in str(refused.value)


def test_an_empty_map_has_no_boards() -> None:
    assert read_map("") == ()
