"""What Renode is told of boards, as golden text, and what its monitor's bytes mean."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.cli import execute
from shared.boards import board_named, image_boards
from shared.emulation import EmulationError
from shared.emulation.qemu_process import EmulatorMissingError
from shared.emulation.renode.files import Load, NoPlatformError, Wiring, platform_of, script_of
from shared.emulation.renode.monitor import Monitor

NANO_PLATFORM = """\
// Arduino Nano 33 BLE Sense

nvic: IRQControllers.NVIC @ sysbus 0xE000E000
    -> cpu@0

cpu: CPU.CortexM @ sysbus
    cpuType: "cortex-m4f"
    nvic: nvic

flash: Memory.MappedMemory @ sysbus 0x0
    size: 0x100000

ram: Memory.MappedMemory @ sysbus 0x20000000
    size: 0x40000

clock: Miscellaneous.NRF52840_CLOCK @ sysbus 0x40000000
    -> nvic@0

console: UART.NRF52840_UART @ sysbus 0x40002000
    easyDMA: true
    -> nvic@2

sensor: UART.NRF52840_UART @ sysbus 0x40028000
    easyDMA: true
    -> nvic@40

timer0: Timers.NRF52840_Timer @ sysbus 0x40008000
    numberOfEvents: 4
    -> nvic@8

rtc1: Timers.NRF52840_RTC @ sysbus 0x40011000
    numberOfEvents: 4
    -> nvic@17
"""
NANO_SCRIPT = '''\
# Arduino Nano 33 BLE Sense
mach create "arduino-nano-33-ble-sense"
machine LoadPlatformDescription @board.repl
cpu PerformanceInMips 64
emulation CreateServerSocketTerminal 3456 "console-port" false
connector Connect sysbus.console console-port
macro reset
"""
    sysbus LoadELF @firmware.elf
"""
runMacro $reset
start
'''
M4_SCRIPT = '''\
mach create "cortex-m4"
machine LoadPlatformDescription @board.repl
cpu PerformanceInMips 25
emulation CreateServerSocketTerminal 1 "console-port" false
connector Connect sysbus.console console-port
emulation CreateServerSocketTerminal 2 "sensor-port" false
connector Connect sysbus.sensor sensor-port
macro reset
"""
    sysbus LoadBinary @firmware.bin 0x10000
    cpu VectorTableOffset 0x10200
"""
runMacro $reset
'''


def test_a_nano_33_ble_is_described_by_its_microcontroller() -> None:
    nano = board_named("arduino-nano-33-ble-sense")
    assert platform_of(nano) == NANO_PLATFORM
    assert script_of(nano, Load("firmware.elf"), Wiring(3456), start=True) == NANO_SCRIPT


def test_a_board_with_an_image_is_described_by_the_catalogue() -> None:
    board = image_boards()["cortex-m4"]
    script = script_of(board, Load("firmware.bin", 0x10000, 0x10200), Wiring(1, 2), start=False)
    assert script.split("\n", 1)[1] == M4_SCRIPT
    platform = platform_of(board)
    for line in (
        "flash: Memory.MappedMemory @ sysbus 0x10000",
        "console: UART.CMSDK_APB_UART @ sysbus 0x40004000\n    frequency: 25000000",
        "sensor: UART.CMSDK_APB_UART @ sysbus 0x40005000",
        "timer: Timers.Arm_CMSDK_Timer @ sysbus 0x40000000\n    frequency: 25000000",
    ):
        assert line in platform


@pytest.mark.parametrize("name", image_boards())
def test_every_board_with_an_image_has_a_core_that_renode_knows(name: str) -> None:
    assert 'cpuType: "cortex-m' in platform_of(image_boards()[name])


def test_other_microcontrollers_are_refused_with_what_there_is() -> None:
    with pytest.raises(NoPlatformError, match="Renode is told of boards with an image, and of those with a Nordic"):
        platform_of(board_named("espressif-esp-eye"))


@contextmanager
def monitored(answers: Sequence[bytes], *, timeout_s: float = 20.0) -> Iterator[Monitor]:
    """A monitor whose Renode sends these bytes, one after each line it is told."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with closing(theirs), theirs.makefile("rb") as told:
            for said in answers:
                told.readline()
                theirs.sendall(said)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with closing(ours):
        yield Monitor(ours, timeout_s)
    thread.join()


ECHOED = b"\xff\xfd\x00\xff\xfb\x01\x1b[33;1m(monitor) \x1b[0mcpu PC\r\n\x1b[32m0x10200\x1b[0m\r\n(m4) "
MARKED = b'echo "edgeloop 1"\r\nedgeloop 1\r\n(m4) '


def test_an_answer_is_what_stands_between_the_echo_and_our_mark() -> None:
    with monitored([ECHOED, MARKED]) as monitor:
        assert monitor.ask("cpu PC") == "0x10200"


@given(cuts=st.lists(st.integers(1, len(ECHOED + MARKED) - 1), max_size=6, unique=True))
def test_an_answer_may_come_in_any_pieces(cuts: list[int]) -> None:
    whole = ECHOED + MARKED
    parts = [whole[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True)]
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        for part in parts:
            theirs.sendall(part)
        assert Monitor(ours, 20.0).ask("cpu PC") == "0x10200"


@pytest.mark.parametrize(
    "refusal",
    [
        b"There was an error executing command 'x'\r\nCould not load it",
        b"\x1b[31mNo such command or device: x\x1b[0m",
        b"Bad parameters for command x",
        b"Error E02: no such type",
    ],
)
def test_a_refusal_is_an_error(refusal: bytes) -> None:
    with monitored([refusal + b"\r\n", MARKED]) as monitor, pytest.raises(EmulationError, match="Renode refused 'x'"):
        monitor.ask("x")


def test_a_renode_that_ends_or_says_nothing_is_an_error() -> None:
    with monitored([b"", b""]) as monitor, pytest.raises(EmulationError, match="Renode ended while it was told to x"):
        monitor.ask("x")
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs), pytest.raises(EmulationError, match=r"did not answer 'x' within 0\.05 s"):
        Monitor(ours, 0.05).ask("x")


def test_a_missing_renode_says_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from shared.emulation.on_renode import require_renode

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulatorMissingError, match=r"not on the PATH, and in no package registry; its releases are at"):
        require_renode()


def test_files_for_a_board_are_written_with_its_firmware(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elf, out = tmp_path / "sketch.elf", tmp_path / "out"
    elf.write_bytes(b"\x7fELF")
    arguments = ["--board", "arduino-nano-33-ble-sense", "--elf", str(elf), "--out", str(out)]
    assert execute(["lab", "renode", *arguments]) == 0
    assert "renode --console board.resc" in " ".join(capsys.readouterr().err.split())
    assert {file.name: file.read_text("utf-8") for file in out.iterdir()} == {
        "board.repl": NANO_PLATFORM,
        "board.resc": NANO_SCRIPT,
        "firmware.elf": "\x7fELF",
    }
    assert execute(["lab", "renode", "--board", "himax-we-i-plus", "--elf", str(elf), "--out", str(out)]) == 2
