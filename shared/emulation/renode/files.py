"""Describes boards to Renode: a platform (``.repl``) and a script (``.resc``), as text.

Source: Renode's documentation (describing platforms, monitor syntax, UART integration), and its models' constructors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.boards import Board, Core, ImageBoard

PLATFORM_FILE: Final = "board.repl"
SCRIPT_FILE: Final = "board.resc"
CONSOLE, SENSOR = "console", "sensor"
"""What the platforms call the two UARTs."""

_CORES: Final = {
    Core.CORTEX_M0PLUS: "cortex-m0+",
    Core.CORTEX_M4: "cortex-m4f",
    Core.CORTEX_M7: "cortex-m7",
    Core.CORTEX_M33: "cortex-m33",
}


class NoPlatformError(ValueError):
    """A board that there is no description of. The message lists those there are."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """TCP ports of this machine that a script lets the UARTs be reached at; None: not at all."""

    console: int
    sensor: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How firmware comes into the machine, each time that it boots. Files lie beside the script.

    Attributes:
        address: Of a binary; None: the file is an ELF, which brings its own.
        vectors: Where the core finds its vector table; None: as the ELF says.
    """

    file: str
    address: int | None = None
    vectors: int | None = None


def platform_of(board: Board) -> str:
    """Return the platform of a board.

    Raises:
        NoPlatformError: nothing is known of its microcontroller's peripherals.
    """
    if isinstance(board, ImageBoard):
        parts = _image_board(board)
    elif (describe := _MICROCONTROLLERS.get(board.mcu)) is not None:
        parts = describe(board)
    else:
        known = ", ".join(sorted(_MICROCONTROLLERS))
        raise NoPlatformError(
            f"{board.name} has a {board.mcu}; Renode is told of boards with an image, and of those with a {known}"
        )
    return "\n\n".join((f"// {board.title}", _core(board), *parts)) + "\n"


def script_of(board: Board, load: Load, wiring: Wiring, *, start: bool) -> str:
    """Return the script that makes the machine. With `start` it runs at once, else when the monitor is told."""
    lines = [
        f"# {board.title}",
        f'mach create "{board.name}"',
        f"machine LoadPlatformDescription @{PLATFORM_FILE}",
        f"cpu PerformanceInMips {_mips(board)}",
    ]
    for uart, port in ((CONSOLE, wiring.console), (SENSOR, wiring.sensor)):
        if port is not None:
            # false: no bytes of telnet's among those of the board.
            lines += [f'emulation CreateServerSocketTerminal {port} "{uart}-port" false']
            lines += [f"connector Connect sysbus.{uart} {uart}-port"]
    # Renode runs the macro of this name after every reset of the machine, too.
    lines += ["macro reset", '"""', *(f"    {command}" for command in _loading(load)), '"""', "runMacro $reset"]
    return "\n".join((*lines, *(["start"] if start else []))) + "\n"


def _loading(load: Load) -> tuple[str, ...]:
    if load.address is None:
        first = f"sysbus LoadELF @{load.file}"
    else:
        first = f"sysbus LoadBinary @{load.file} {load.address:#x}"
    return (first, *(() if load.vectors is None else (f"cpu VectorTableOffset {load.vectors:#x}",)))


def _mips(board: Board) -> int:
    """Return a speed at which an image's timer ticks once an instruction, so that it counts them."""
    return (board.peripheral_hz if isinstance(board, ImageBoard) else board.clock_hz) // 1_000_000


def _core(board: Board) -> str:
    return (
        "nvic: IRQControllers.NVIC @ sysbus 0xE000E000\n    -> cpu@0\n\n"
        f'cpu: CPU.CortexM @ sysbus\n    cpuType: "{_CORES[board.core]}"\n    nvic: nvic'
    )


def _memory(name: str, address: int, size_bytes: int) -> str:
    return f"{name}: Memory.MappedMemory @ sysbus {address:#x}\n    size: {size_bytes:#x}"


def _image_board(board: ImageBoard) -> tuple[str, ...]:
    uarts = ((CONSOLE, board.uart_address), (SENSOR, board.sensor_uart_address))
    return (
        _memory("flash", board.slot_address, board.slot_bytes),
        _memory("ram", board.ram_address, board.ram_bytes),
        *(
            f"{name}: UART.CMSDK_APB_UART @ sysbus {address:#x}\n    frequency: {board.peripheral_hz}"
            for name, address in uarts
        ),
        f"timer: Timers.Arm_CMSDK_Timer @ sysbus {board.timer_address:#x}\n    frequency: {board.peripheral_hz}",
    )


def _nrf52840(board: Board) -> tuple[str, ...]:
    """Addresses and interrupts: Nordic nRF52840 Product Specification, instantiation."""
    return (
        _memory("flash", 0x0, board.flash_bytes),
        _memory("ram", 0x2000_0000, board.ram_bytes),
        "clock: Miscellaneous.NRF52840_CLOCK @ sysbus 0x40000000\n    -> nvic@0",
        f"{CONSOLE}: UART.NRF52840_UART @ sysbus 0x40002000\n    easyDMA: true\n    -> nvic@2",
        f"{SENSOR}: UART.NRF52840_UART @ sysbus 0x40028000\n    easyDMA: true\n    -> nvic@40",
        "timer0: Timers.NRF52840_Timer @ sysbus 0x40008000\n    numberOfEvents: 4\n    -> nvic@8",
        "rtc1: Timers.NRF52840_RTC @ sysbus 0x40011000\n    numberOfEvents: 4\n    -> nvic@17",
    )


_MICROCONTROLLERS: Final[Mapping[str, Callable[[Board], tuple[str, ...]]]] = {"Nordic nRF52840": _nrf52840}
