"""The boards Edgeloop knows, as data: one TOML file a board in `catalogue/`, with the sources of its facts."""

import tomllib
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.events import Slug


class Core(StrEnum):
    """Processor cores, by the names that their makers give them."""

    CORTEX_M0PLUS = "cortex-m0plus"
    CORTEX_M4 = "cortex-m4"
    CORTEX_M7 = "cortex-m7"
    CORTEX_M33 = "cortex-m33"
    ARC_EM9D = "arc-em9d"
    XTENSA_LX6 = "xtensa-lx6"


class SafetyClass(StrEnum):
    """How an update may go wrong. A board of class C never leaves the lab."""

    A = "a"
    """Two slots, a trial boot that must be confirmed, and a signature that the bootloader checks."""
    B = "b"
    """Two slots: an image that does not start is followed by the one before."""
    C = "c"
    """One slot: an update that breaks off leaves nothing that runs."""


class Flashing(StrEnum):
    """The programs and protocols that bring firmware onto a board."""

    SMP = "smp"
    """MCUmgr's Simple Management Protocol, into MCUboot's second slot."""
    ARDUINO_CLI = "arduino-cli"
    """`arduino-cli upload`, which calls the uploader of the board's core."""
    BOSSAC = "bossac"
    DFU_UTIL = "dfu-util"
    ESPTOOL = "esptool"
    PYOCD = "pyocd"
    HIMAX = "himax"
    """The image tool of Himax's SDK, then XMODEM over the debug UART."""


class LibraryKind(StrEnum):
    """What a model becomes for a board whose toolchain or SDK is in no package registry."""

    ARDUINO = "arduino"
    ZEPHYR = "zephyr"
    ESP_IDF = "esp-idf"
    MAKE = "make"
    """A static library with a Makefile, for vendors' SDKs that are made of Makefiles."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Power(_Part):
    """What the maker publishes of the processor's power; nothing here is measured or modelled by Edgeloop."""

    active_ua_per_mhz: float = Field(gt=0)
    volts: float = Field(gt=0, description="At which the current flows")
    conditions: str = Field(min_length=1)
    source: str = Field(min_length=1)


class Timing(_Part):
    """How many cycles an instruction takes on silicon with this core: what turns counted instructions into time."""

    cycles_per_instruction: float = Field(gt=0)
    uncertainty: float = Field(gt=0, lt=1, description="Share by which a modelled latency may be off")
    basis: str = Field(min_length=1, description="Where the factor comes from")


class PublishedRun(_Part):
    """An inference that somebody measured on silicon with this core. Power is its energy over its latency."""

    part: str = Field(min_length=1, description="Board and microcontroller")
    clock_hz: int = Field(gt=0)
    benchmark: str = Field(min_length=1, description="What ran, and in which round and division it was published")
    latency_ms: float = Field(gt=0)
    energy_uj: float = Field(gt=0)
    source: str = Field(min_length=1)

    @property
    def milliwatts(self) -> float:
        """Average power of the inference."""
        return self.energy_uj / self.latency_ms

    @property
    def picojoules_per_cycle(self) -> float:
        """Energy of a clock cycle, which changes little with the clock where the voltage stays."""
        return self.milliwatts * 1e-3 / self.clock_hz * 1e12


class BoardFacts(_Part):
    """What is known of every board, built whole or not."""

    name: Slug
    title: str
    vendor: str
    mcu: str = Field(description="The microcontroller's part number, or what stands for it")
    core: Core = Field(description="The core that runs the model")
    clock_hz: int = Field(gt=0, description="The highest that the maker specifies, bursts excluded")
    flash_bytes: int = Field(gt=0, description="Memory that programs are stored in, bootloader and all slots included")
    ram_bytes: int = Field(gt=0, description="Memory of the core, without external RAM")
    sensors: tuple[str, ...] = Field(description="Part and what it senses, on the board itself")
    radios: tuple[str, ...]
    power: Power | None = None
    sources: tuple[str, ...] = Field(min_length=1, description="Where these facts were read")


class Emulation(_Part):
    """How QEMU stands for the board. Unicorn needs only the memory map."""

    qemu_machine: str
    qemu_cpu: str
    reset_address: int = Field(ge=0, description="Where the core looks for its first vectors, as MCUboot's would be")


class ImageBoard(BoardFacts):
    """A board whose whole firmware is built here. Addresses are those that the core sees in its boot state."""

    build: Literal["image"]
    stack_bytes: int = Field(gt=0, description="Part of ram_bytes that is kept for the stack")
    slot_address: int = Field(ge=0, description="Where the bootloader finds the image, header included")
    slot_bytes: int = Field(gt=0, description="Size of the primary slot, image header included")
    ram_address: int = Field(ge=0)
    uart_address: int = Field(ge=0, description="CMSDK APB UART: the console")
    sensor_uart_address: int = Field(ge=0, description="CMSDK APB UART: recorded sensor data arrives here")
    timer_address: int = Field(ge=0, description="CMSDK APB timer: the time base")
    peripheral_hz: int = Field(gt=0, description="Clock of UART and timer")
    safety_class: SafetyClass
    flashing: Flashing
    emulation: Emulation
    timing: Timing
    published_run: PublishedRun | None = Field(default=None, description="None where nobody has published one")


class LibraryTarget(_Part):
    """One kind of library for a board, and what its tools call the board."""

    kind: LibraryKind
    target: str = Field(description="FQBN of Arduino, board of Zephyr, target of ESP-IDF, cross compiler of a Makefile")
    program_bytes: int = Field(gt=0, description="What the target's tools leave of the flash to a program")
    data_bytes: int = Field(gt=0, description="What they leave of the RAM to its variables and its stack")
    safety_class: SafetyClass = Field(description="How safe an update is with this library's example as it is")
    flashing: Flashing
    motion_library: str = Field(
        default="", description="Arduino library of the board's motion sensor, with an IMU object"
    )


class LibraryBoard(BoardFacts):
    """A board that gets its model as a ready library: its toolchain or SDK is in no package registry."""

    build: Literal["library"]
    reason: str = Field(min_length=1, description="Why no image is built, as users read it")
    libraries: tuple[LibraryTarget, ...] = Field(min_length=1)


Board: TypeAlias = ImageBoard | LibraryBoard
_BOARD: TypeAdapter[Board] = TypeAdapter(Annotated[Board, Field(discriminator="build")])


class UnknownBoardError(ValueError):
    """A name that is not in the catalogue."""


class NoImageError(UnknownBoardError):
    """A board of the catalogue that no image is built for, where one is needed."""


@cache
def catalogue() -> dict[str, Board]:
    """Return every board by name."""
    files = (
        file for file in resources.files(__package__).joinpath("catalogue").iterdir() if file.name.endswith(".toml")
    )
    boards = (_BOARD.validate_python(tomllib.loads(file.read_text("utf-8"))) for file in files)
    return {board.name: board for board in sorted(boards, key=lambda board: board.name)}


@cache
def image_boards() -> dict[str, ImageBoard]:
    """Return the boards that images are built for, by name: those that are emulated, and virtual fleets consist of."""
    return {name: board for name, board in catalogue().items() if isinstance(board, ImageBoard)}


def board_named(name: str) -> Board:
    """Return the board called `name`.

    Raises:
        UnknownBoardError: there is none; the message lists those there are.
    """
    if name not in catalogue():
        raise UnknownBoardError(f"no board is called {name!r}; the catalogue has {', '.join(catalogue())}")
    return catalogue()[name]


def image_board(name: str) -> ImageBoard:
    """Return the board called `name`, where only one with an image will do: emulators, labs, gateways.

    Raises:
        UnknownBoardError: there is none.
        NoImageError: it is built as a library; the message says why, and what has an image.
    """
    board = board_named(name)
    if not isinstance(board, ImageBoard):
        raise NoImageError(
            f"{name} gets a library, not an image: {board.reason}. Boards with an image: {', '.join(image_boards())}"
        )
    return board
