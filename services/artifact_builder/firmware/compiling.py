"""Compiles a generated model with the reference firmware, for one board, with Zig's clang or with GCC."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from services.artifact_builder.codegen import GeneratedModel
from services.artifact_builder.firmware.called import called_files
from services.artifact_builder.firmware.compilers import (
    SMALLEST,
    combine_command,
    environment_of,
    is_compiled_for,
    link_command,
    refused,
    run,
    version_of,
)
from services.artifact_builder.firmware.signing import HEADER_BYTES, TRAILER_BYTES
from services.artifact_builder.firmware.toolchains import Optimisation, Toolchain
from shared.boards import Core, ImageBoard
from shared.emulation.elf import flash_image, memory_sections

# The model and its kernels as one object, to which the linker script gives a section of its own.
_MODEL_OBJECT = "model.o"
_MODEL_SECTION = ".model"
_MODEL_FOLDERS = ("kernels", "model")

PLAYBACK = "EL_PLAYBACK"
"""A macro: the firmware takes recorded sensor data from its second UART. What fleets get has no such reader."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A memory that is too small."""

    region: str
    """``flash`` or ``RAM``."""
    needed_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What a model and its kernels take, linked alone for a core."""

    flash_bytes: int
    ram_bytes: int
    toolchain: str


class DoesNotFitError(ValueError):
    """The firmware is larger than the board."""

    def __init__(self, board: str, *shortages: Shortage) -> None:
        """Keep the numbers beside the message."""
        short = "; ".join(
            f"{memory.region} needs {memory.needed_bytes:,} bytes and has {memory.available_bytes:,}"
            for memory in shortages
        )
        super().__init__(
            f"the firmware does not fit {board}: {short}. "
            "Next: make the model smaller, or drop the board from the manifest"
        )
        self.board = board
        self.shortages = shortages


@dataclass(frozen=True, slots=True)
class CompiledFirmware:
    """Linked firmware, not yet an image."""

    binary: bytes
    """What follows the image header in flash."""
    elf: bytes
    flash_bytes: int
    model_flash_bytes: int
    """The model and its kernels, part of `flash_bytes`: what they add to a firmware that links them."""
    ram_bytes: int
    """Static: .bss, without the stack."""
    toolchain: str
    """Compiler, version and optimisation, for example ``zig 0.17.0 -Os``."""


def compile_firmware(
    model: GeneratedModel,
    board: ImageBoard,
    *,
    model_digest: str,
    toolchain: Toolchain = Toolchain.ZIG,
    optimisation: Optimisation = Optimisation.SIZE,
    defines: Sequence[str] = (),
    workdir: Path,
    cache_dir: Path | None = None,
) -> CompiledFirmware:
    """Compile and link. The same arguments give the same bytes, whatever `workdir` is called.

    Args:
        model: what `generate` returned.
        board: gives the core and the memory map.
        model_digest: ``sha256:<hex>`` of the int8 .tflite; the firmware reports it.
        toolchain: which compiler.
        optimisation: size or speed.
        defines: macros to compile with; EL_PORTABLE leaves the DSP extension alone, for `PLAYBACK` see there.
        workdir: an existing folder; sources and results are left in it.
        cache_dir: Zig's cache, worth sharing between builds; ``zig-cache`` in `workdir` unless given.

    Raises:
        DoesNotFitError: flash or RAM is too small.
        CompilerError: the generated C or the kernels are at fault.
        CompilerUnavailableError: the compiler is missing, was killed, ran out of disk or never ended.
    """
    sources = _write_sources(model, board, model_digest, workdir, playback=PLAYBACK in defines)
    ours = called_files(workdir, [name for name in sources if name.startswith(_MODEL_FOLDERS)])
    others = [name for name in sources if not name.startswith(_MODEL_FOLDERS)]
    macros = [f"-D{name}" for name in defines]
    environment = environment_of(cache_dir or workdir / "zig-cache")
    for command in (
        combine_command(toolchain, optimisation, board.core, [*macros, *ours], _MODEL_OBJECT),
        link_command(toolchain, optimisation, board.core, [*SMALLEST[toolchain], *macros, *others, _MODEL_OBJECT]),
    ):
        output = run(command, workdir, environment)
        if output is not None:
            _raise_overflow(output, board)
            raise refused(command, output)
    elf = (workdir / "firmware.elf").read_bytes()
    binary = flash_image(elf, _code_address(board), _code_bytes(board))
    sections = memory_sections(elf)
    return CompiledFirmware(
        binary=binary,
        elf=elf,
        flash_bytes=len(binary),
        model_flash_bytes=sum(section.size_bytes for section in sections if section.name == _MODEL_SECTION),
        ram_bytes=sum(
            section.size_bytes
            for section in sections
            if section.address >= board.ram_address and section.name != ".stack"
        ),
        toolchain=f"{version_of(toolchain)} {optimisation}",
    )


def _code_address(board: ImageBoard) -> int:
    return board.slot_address + HEADER_BYTES


def _code_bytes(board: ImageBoard) -> int:
    return board.slot_bytes - HEADER_BYTES - TRAILER_BYTES


def _write_sources(
    model: GeneratedModel, board: ImageBoard, model_digest: str, workdir: Path, *, playback: bool
) -> list[str]:
    """Write everything to compile below `workdir`, and return the C files, relative to it."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", model_digest):
        raise ValueError(f"a model digest is sha256: and 64 hexadecimal digits, not {model_digest!r}")
    names = []
    for folder in ("kernels", "platform", "app", *(["playback"] if playback else [])):
        for file in _c_files(folder):
            (workdir / folder).mkdir(exist_ok=True)
            (workdir / folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
            names.append(f"{folder}/{file.name}")
    (workdir / "model").mkdir(exist_ok=True)
    for name, text in model.sources.items():
        (workdir / "model" / name).write_text(text, "utf-8")
        names.append(f"model/{name}")
    (workdir / "model" / "release.h").write_text(
        f'#define RELEASE_MODEL_DIGEST "{model_digest}"\n'
        f'#define RELEASE_MODEL_NAME "edgeloop-{model_digest.removeprefix("sha256:")[:8]}"\n',
        "utf-8",
    )
    (workdir / "platform" / "board.h").write_text(_board_header(board), "utf-8")
    (workdir / "link.ld").write_text(_linker_script(board), "utf-8")
    return sorted(name for name in names if name.endswith(".c"))


def _c_files(folder: str) -> list[Traversable]:
    files = resources.files("firmware").joinpath(folder).iterdir()
    return sorted((file for file in files if file.name.endswith((".c", ".h"))), key=lambda file: file.name)


def _board_header(board: ImageBoard) -> str:
    """Tell the platform how fast this board's peripherals tick; where they are is the linker script's to say."""
    return f"#define BOARD_PERIPHERAL_HZ {board.peripheral_hz}u\n"


def _linker_script(board: ImageBoard) -> str:
    text = resources.files("firmware").joinpath("platform", "link.ld.in").read_text("utf-8")
    values = {
        "CODE_ADDRESS": hex(_code_address(board)),
        "CODE_BYTES": hex(_code_bytes(board)),
        "RESET_ADDRESS": hex(board.emulation.reset_address),
        "RAM_ADDRESS": hex(board.ram_address),
        "RAM_BYTES": hex(board.ram_bytes),
        "STACK_BYTES": hex(board.stack_bytes),
        "UART_ADDRESS": hex(board.uart_address),
        "SENSOR_UART_ADDRESS": hex(board.sensor_uart_address),
        "TIMER_ADDRESS": hex(board.timer_address),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _raise_overflow(output: str, board: ImageBoard) -> None:
    """Raise what the linker says of regions that are too small; LLD reports a running sum section by section."""
    found = re.findall(r"region [`']?(FLASH|RAM)'?:? (?:is )?overflow(?:ed|s)? by (\d+) bytes", output)
    if not found:
        return
    shortages = []
    for region, shown, available in (("FLASH", "flash", _code_bytes(board)), ("RAM", "RAM", board.ram_bytes)):
        excesses = [int(size) for name, size in found if name == region]
        if excesses:
            shortages.append(Shortage(shown, available + max(excesses), available))
    raise DoesNotFitError(board.name, *shortages)


def measure_alone(sources: Mapping[str, str], core: Core, *, workdir: Path, cache_dir: Path) -> ModelSizes | None:
    """Compile the C of a library for a core with Zig's clang, and link what an inference needs, for its size alone.

    Args:
        sources: every file by name.
        core: whose instructions.
        workdir: an existing folder; sources and results are left in it.
        cache_dir: Zig's cache.

    Returns:
        None when there is no compiler for the core.

    Raises:
        CompilerError, CompilerUnavailableError: as `compile_firmware`.
    """
    if not is_compiled_for(core):
        return None
    memory = _firmware_text("platform", "memory.c")
    for name, text in {**sources, "memory.c": memory, "link.ld": _firmware_text("library", "size.ld.in")}.items():
        (workdir / name).write_text(text, "utf-8")
    names = called_files(workdir, [name for name in (*sources, "memory.c") if name.endswith(".c")])
    command = link_command(Toolchain.ZIG, Optimisation.SIZE, core, names)
    if (output := run(command, workdir, environment_of(cache_dir))) is not None:
        raise refused(command, output)
    sections = {
        section.name: section.size_bytes for section in memory_sections((workdir / "firmware.elf").read_bytes())
    }
    code, data, zeros = (sections.get(name, 0) for name in (".text", ".data", ".bss"))
    return ModelSizes(
        flash_bytes=code + data, ram_bytes=data + zeros, toolchain=f"{version_of(Toolchain.ZIG)} {Optimisation.SIZE}"
    )


def _firmware_text(*path: str) -> str:
    return resources.files("firmware").joinpath(*path).read_text("utf-8")
