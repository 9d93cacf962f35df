"""A lab's inventory: read, written, and made of hardware maps and back."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.cli import execute
from shared.interop.twister import HardwareMapError, read_map
from shared.interop.twister_inventory import exported, imported, platforms_known
from shared.lab.inventory import InventoryBoard, InventoryError, TwisterEntry, read_inventory, write_inventory

PORTENTA = "arduino_portenta_h7/stm32h747xx/m7"
MAP = f"""\
- {{connected: true, id: '0051', platform: {PORTENTA}, product: Portenta, runner: dfu-util,
   serial: /dev/ttyACM1, baud: 9600}}
- {{connected: true, id: '0051', platform: other/platform, product: Portenta, runner: openocd, fixtures: [imu]}}
- {{connected: false, id: '0052', platform: {PORTENTA}, product: Portenta, runner: dfu-util, serial: /dev/ttyACM2}}
"""
FILE = """\
boards:
- name: nano-1
  board: arduino-nano-33-ble-sense
  place: shelf
  address: labgrid:board1
- name: m7-1
  board: arduino-portenta-h7
  place: shelf
  address: /dev/ttyACM9
  identity: '0051'
"""
SLUGS = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8})?", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
BOARDS = st.builds(
    InventoryBoard,
    name=SLUGS,
    board=st.sampled_from(["cortex-m4", "arduino-portenta-h7"]),
    place=SLUGS,
    address=TEXTS.filter(bool),
    identity=TEXTS,
    baud=st.integers(300, 10**6),
    twister=st.none() | st.builds(TwisterEntry, platforms=st.tuples(TEXTS), product=TEXTS, fixtures=st.tuples(TEXTS)),
)


@given(st.lists(BOARDS, max_size=6, unique_by=(lambda b: b.name, lambda b: b.address, lambda b: b.identity or b.name)))
def test_what_is_written_is_read_again(boards: list[InventoryBoard]) -> None:
    assert read_inventory(write_inventory(boards)) == tuple(boards)


def test_entries_that_lock_together_are_one_board_and_a_known_one_is_renewed() -> None:
    found = imported(read_inventory(FILE), read_map(MAP), place="rack-3", boards=platforms_known())
    nano, portenta = found.boards
    assert (nano.name, nano.address) == ("nano-1", "labgrid:board1")
    assert (portenta.name, portenta.place, portenta.address, portenta.baud) == ("m7-1", "shelf", "/dev/ttyACM1", 9600)
    assert portenta.twister is not None
    assert portenta.twister.platforms == (PORTENTA, "other/platform")
    assert found.left_out == ("0052: no entry of it is connected, available and at a serial device",)


def test_a_new_board_gets_a_name_that_is_free() -> None:
    taken = InventoryBoard(name="arduino-portenta-h7-1", board="cortex-m4", place="p", address="a")
    found = imported([taken], read_map(MAP), place="rack-3", boards=platforms_known())
    assert [board.name for board in found.boards] == ["arduino-portenta-h7-1", "arduino-portenta-h7-2"]
    assert (found.boards[1].place, found.boards[1].identity) == ("rack-3", "0051")


def test_a_platform_that_is_no_board_is_named_and_may_be_mapped() -> None:
    entries = read_map(MAP.replace(PORTENTA, "unheard/of"))
    with pytest.raises(HardwareMapError, match=r"0051: unheard/of, other/platform stands for no board.*--map"):
        imported((), entries, place="rack", boards=platforms_known())
    [board] = imported((), entries, place="rack", boards={"other/platform": "cortex-m4"}).boards
    assert board.board == "cortex-m4"
    both = {"other/platform": "cortex-m4", "unheard/of": "cortex-m7"}
    with pytest.raises(HardwareMapError, match="several boards, cortex-m4, cortex-m7"):
        imported((), entries, place="rack", boards=both)


def test_an_exported_map_is_imported_as_the_same_boards() -> None:
    inventory = imported((), read_map(MAP), place="rack", boards=platforms_known()).boards
    mapped, left_out = exported((*inventory, *read_inventory(FILE)[:1]))
    assert left_out == ("nano-1: Zephyr has no platform for arduino-nano-33-ble-sense",)
    assert imported((), mapped, place="rack", boards=platforms_known()).boards == inventory


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boards: [", "lab.yaml:"),
        ("- name: a", "allowed is one key, `boards`"),
        ("boards:\n- a", "lab.yaml:2: found 'a'"),
        (FILE.replace("place: shelf", "rack: shelf", 1), "lab.yaml:2: place: "),
        (FILE.replace("  address: /dev/ttyACM9\n", "", 1), "lab.yaml:6: address: "),
        (FILE.replace("'0051'", "0051"), "lab.yaml:6: identity: found 51"),
        (FILE.replace("arduino-portenta-h7", "pdp-11"), "lab.yaml:6: board: found 'pdp-11'; the catalogue has"),
        (FILE.replace("m7-1", "nano-1"), "name 'nano-1' stands for nano-1 and for nano-1"),
        (FILE.replace("/dev/ttyACM9", "labgrid:board1"), "address 'labgrid:board1' stands for"),
    ],
)
def test_what_is_no_inventory_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        read_inventory(text, "lab.yaml")
    assert said in str(caught.value)


def test_maps_and_labgrid_places_come_and_go_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, hardware, out = tmp_path / "lab.yaml", tmp_path / "map.yaml", tmp_path / "out.yaml"
    hardware.write_text(MAP)
    arguments = ["--inventory", str(lab), "--twister", str(hardware), "--labgrid", "board1=arduino-nano-33-ble-sense"]
    assert execute(["lab", "import", *arguments, "--place", "rack-3", "--json"]) == 0
    said = capsys.readouterr()
    assert [board["address"] for board in json.loads(said.out)] == ["/dev/ttyACM1", "labgrid:board1"]
    assert "left out: 0052" in said.err
    before = lab.read_bytes()
    assert execute(["lab", "import", *arguments, "--place", "elsewhere"]) == 0
    assert lab.read_bytes() == before
    capsys.readouterr()
    assert execute(["lab", "export", "--inventory", str(lab), "--twister", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["boards"] == 1
    [entry] = read_map(out.read_text("utf-8"))
    assert (entry.lock, entry.serial, entry.runner) == ("0051", "/dev/ttyACM1", "dfu-util")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import"], "nothing to import"),
        (["import", "--labgrid", "board1"], "--labgrid 'board1'; allowed are two names"),
        (["import", "--labgrid", "Board 1=cortex-m4"], "allowed are small letters"),
        (["import", "--labgrid", "board1=pdp-11"], "the catalogue has"),
        (["export", "--twister", "map.yaml"], "lab.yaml: no such file"),
    ],
)
def test_bad_input_of_the_commands_is_named(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(["lab", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
