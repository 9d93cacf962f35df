"""gateway.yaml: what is wrong is named by file, line and key, with what is allowed."""

from pathlib import Path

import pytest

from device_gateway.config import ConfigError, read_config

GOOD = """\
gateway: rack-1
project: demo
devices:
  - id: m4-01
    board: cortex-m4
    driver: smp-udp
    address: udp://127.0.0.1:24001
  - id: m7-01
    board: cortex-m7
    driver: smp-udp
    address: udp://192.0.2.7
lab:
  place: bench
  boards:
    - name: m4-bench
      board: cortex-m4
      port: /dev/ttyACM0
      identity: "usb:2341:0070:5C7A11"
      flash: [bossac, -p, "{port}", -e, -w, "{image}"]
    - name: m33-bench
      board: cortex-m33
      port: rfc2217://192.0.2.9:4000
      baud: 921600
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, GOOD))
    assert config.gateway == "rack-1"
    assert [device.id for device in config.devices] == ["m4-01", "m7-01"]
    assert config.lab is not None
    assert [(board.name, board.baud) for board in config.lab.boards] == [("m4-bench", 115_200), ("m33-bench", 921_600)]


def test_a_rack_may_have_boards_of_the_lab_alone_and_must_have_some(tmp_path: Path) -> None:
    alone = GOOD.partition("devices:")[0] + "lab:" + GOOD.partition("lab:")[2]
    assert read_config(write(tmp_path, alone)).devices == ()
    with pytest.raises(ConfigError, match="devices: no board to look after; list the fleet's here"):
        read_config(write(tmp_path, "gateway: rack-1\nproject: demo\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("board: cortex-m4", "board: nano", ":5: devices[0].board: found 'nano'; allowed are cortex-m0plus"),
        ("board: cortex-m4", "board: espressif-esp-eye", ":5: devices[0].board: espressif-esp-eye gets a library"),
        ("smp-udp\n    address: udp://127", "jtag\n    address: udp://127", ":6: devices[0].driver: found 'jtag'"),
        ("udp://127.0.0.1:24001", "tcp://127.0.0.1", ":7: devices[0].address: 'tcp://127.0.0.1' is no address"),
        ("udp://127.0.0.1:24001", "udp://127.0.0.1:70000", ":7: devices[0].address"),
        ("udp://192.0.2.7", "udp://127.0.0.1:24001", ":7: devices[0].address: udp://127.0.0.1:24001 stands 2 times"),
        ("id: m7-01", "id: m4-01", ":4: devices[0].id: 'm4-01' stands 2 times"),
        ("id: m7-01", "id: M7 01", ":8: devices[1].id: found 'M7 01'"),
        ("    board: cortex-m7\n", "", ":8: devices[1].board: Field required; the keys are id, board, driver"),
        ("project: demo", "projekt: demo", ":2: projekt: found 'demo'"),
        ("devices:", "devices: [", "not YAML"),
        ("devices:", "when: 2026-13-45\ndevices:", "not YAML: month must be in 1..12"),
        ("place: bench", "rack: bench", ":13: lab.rack: found 'bench'"),
        ("place: bench", "rack: bench", "the keys are place, inventory, boards"),
        ("name: m33-bench", "name: m4-bench", ":15: lab.boards[0].name: 'm4-bench' stands 2 times"),
        ("board: cortex-m4\n      port", "board: nano\n      port", ":16: lab.boards[0].board: found 'nano'"),
        ("rfc2217://192.0.2.9:4000", "/dev/ttyACM0", ":17: lab.boards[0].port: /dev/ttyACM0 stands 2 times"),
        (', "{image}"]', "]", ":19: lab.boards[0].flash: found 'bossac -p {port} -e -w'; write {image} where"),
        ("baud: 921600", "speed: 921600", "the keys are name, board, port, baud, identity, flash"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as raised:
        read_config(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_says_which_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EDGELOOP_GATEWAY_CONFIG"):
        read_config(tmp_path / "absent.yaml")


INVENTORY = """\
boards:
- name: m7-1
  board: cortex-m7
  place: bench
  address: /dev/ttyACM3
  identity: '0051'
- name: m4-1
  board: cortex-m4
  place: elsewhere
  address: labgrid:board1
"""


def with_inventory(tmp_path: Path, inventory: str, config: str = GOOD) -> Path:
    (tmp_path / "racks").mkdir()
    (tmp_path / "racks/lab.yaml").write_text(inventory)
    return write(tmp_path, config.replace("place: bench\n", "place: bench\n  inventory: racks/lab.yaml\n"))


def test_an_inventorys_boards_of_the_place_stand_beside_the_listed_ones(tmp_path: Path) -> None:
    lab = read_config(with_inventory(tmp_path, INVENTORY)).lab
    assert lab is not None
    assert [board.name for board in lab.boards] == ["m4-bench", "m33-bench", "m7-1"]
    last = lab.boards[-1]
    assert (last.board, last.port, last.baud, last.identity) == ("cortex-m7", "/dev/ttyACM3", 115_200, "0051")


def test_an_inventory_alone_will_do_and_without_a_place_it_is_the_gateways(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(INVENTORY.replace("place: bench", "place: rack-1"))
    lab = read_config(write(tmp_path, "gateway: rack-1\nproject: demo\nlab: {inventory: lab.yaml}\n")).lab
    assert lab is not None
    assert [board.name for board in lab.boards] == ["m7-1"]
    with pytest.raises(ConfigError, match=r"yaml:3: lab\.boards: no board to lend; .* lab\.inventory"):
        read_config(write(tmp_path, "gateway: rack-1\nproject: demo\nlab: {place: bench}\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("boards:", "board:", "lab.yaml: allowed is one key, `boards`"),
        ("m4-1", "2026-13-45", "lab.yaml: no YAML: month must be in 1..12"),
        ("m4-1", "m7-1", "lab.yaml:7: name 'm7-1' stands for m7-1 and for m7-1"),
        ("place: bench", "place: shelf", "gateway.yaml:14: lab.inventory: "),
        ("place: bench", "place: shelf", "has no board at 'bench'; its places are elsewhere, shelf"),
        ("/dev/ttyACM3", "labgrid:board2", "lab.yaml:2: identity: found '0051', a serial number"),
        ("board: cortex-m7", "board: espressif-esp-eye", "lab.yaml:2: board: espressif-esp-eye gets a library"),
        ("/dev/ttyACM3", "socket://192.0.2.9:4000", "lab.yaml:2: identity: found '0051', a serial number"),
        ("/dev/ttyACM3", "/dev/ttyACM0", "gateway.yaml:18: lab.boards[0].port: /dev/ttyACM0 stands 2 times"),
    ],
)
def test_a_mistake_in_an_inventory_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(with_inventory(tmp_path, INVENTORY.replace(old, new)))
    assert message in str(raised.value)


def test_an_inventory_that_is_not_there_says_who_writes_one(tmp_path: Path) -> None:
    path = with_inventory(tmp_path, INVENTORY)
    (tmp_path / "racks/lab.yaml").unlink()
    with pytest.raises(ConfigError, match=r":14: lab\.inventory: .*lab\.yaml: No such file.* `edgeloop lab import`"):
        read_config(path)
