"""Compiles a generated model with the reference firmware, for one board, with Zig's clang or with GCC."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from services.artifact_builder.codegen import GeneratedModel
from services.artifact_builder.firmware.called import called_files
from services.artifact_builder.firmware.signing import HEADER_BYTES, TRAILER_BYTES
from services.artifact_builder.firmware.toolchains import Optimisation, Toolchain
from shared.boards import Core, ImageBoard
from shared.emulation.elf import flash_image, memory_sections

_LINES_SHOWN = 20
_TIMEOUT_S = 300.0
_DISK_IS_FULL = ("No space left on device", "NoSpaceLeft")
_COMPILE_FLAGS = (
    "-std=c99",
    "-g0",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    # The arithmetic is int32 modulo 2^32, as the reference's is in effect.
    "-fwrapv",
    # A product that is added without being rounded first would not be the reference's.
    "-ffp-contract=off",
    "-fno-builtin",
    "-fomit-frame-pointer",
)
_LINK_FLAGS = ("-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,--strip-debug", "-T", "link.ld", "-nostartfiles")
# The model and its kernels as one object, to which the linker script gives a section of its own.
_MODEL_OBJECT = "model.o"
_MODEL_SECTION = ".model"
_MODEL_FOLDERS = ("kernels", "model")

PLAYBACK = "EL_PLAYBACK"
"""A macro: the firmware takes recorded sensor data from its second UART. What fleets get has no such reader."""

_FLOATING_POINT = {
    Core.CORTEX_M0PLUS: (),
    Core.CORTEX_M4: ("-mfpu=fpv4-sp-d16",),
    Core.CORTEX_M7: ("-mfpu=fpv5-d16",),
    Core.CORTEX_M33: ("-mfpu=fpv5-sp-d16",),
}
"""GCC's name of the unit."""

# To Zig, floating point and the M33's DSP extension are options of a core, and left out unless named.
_ZIG_CORES = {
    Core.CORTEX_M0PLUS: "cortex_m0plus",
    Core.CORTEX_M4: "cortex_m4+vfp4d16sp",
    Core.CORTEX_M7: "cortex_m7+fp_armv8d16",
    Core.CORTEX_M33: "cortex_m33+dsp+fp_armv8d16sp",
}


# Whatever the kernels are compiled for: nobody waits for a command line. Zig itself takes -Oz for -Os. Optimised as one
# program when it is linked, what is called from one place costs no call, and what is always the same no argument.
_SMALLEST = {Toolchain.ZIG: ("-Os", "-Xclang", "-Oz", "-flto"), Toolchain.GCC: ("-Os", "-flto")}


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


class CompilerError(RuntimeError):
    """The compiler refused what Edgeloop generated. No repository should be able to cause that."""


class CompilerUnavailableError(RuntimeError):
    """The compiler is missing, was killed, ran out of disk or never ended: the machine's trouble."""


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
    environment = _environment(cache_dir or workdir / "zig-cache")
    for command in (
        _combine_command(toolchain, optimisation, board.core, [*macros, *ours]),
        _link_command(toolchain, optimisation, board.core, [*_SMALLEST[toolchain], *macros, *others, _MODEL_OBJECT]),
    ):
        output = _run(command, workdir, environment)
        if output is not None:
            _raise_overflow(output, board)
            raise _refused(command, output)
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
        toolchain=f"{_version(toolchain)} {optimisation}",
    )


def warm_up(core: Core, toolchain: Toolchain, cache_dir: Path) -> None:
    """Let Zig build its runtime library for a core before anything is to be compiled: it costs seconds, and once.

    Args:
        core: what firmware is to be compiled for.
        toolchain: GCC needs nothing of the kind.
        cache_dir: Zig's cache, an existing folder. A mark in it says that the library was built.

    Raises:
        CompilerError, CompilerUnavailableError: as `compile_firmware`.
    """
    if toolchain is not Toolchain.ZIG or (mark := cache_dir / f"warm-{core}-{metadata.version('ziglang')}").exists():
        return
    with tempfile.TemporaryDirectory(prefix="edgeloop-warm-up-") as folder:
        (Path(folder) / "link.ld").write_text("SECTIONS {}\n", "utf-8")
        (Path(folder) / "nothing.c").write_text("void _start(void) {}\n", "utf-8")
        command = _link_command(toolchain, Optimisation.SIZE, core, ["nothing.c"])
        if (output := _run(command, Path(folder), _environment(cache_dir))) is not None:
            raise _refused(command, output)
    mark.touch()


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


def _combine_command(toolchain: Toolchain, optimisation: Optimisation, core: Core, sources: Sequence[str]) -> list[str]:
    """Compile, and make one object of it that keeps its sections."""
    return [*_compiler(toolchain, optimisation, core), *sources, "-r", "-nostdlib", "-o", _MODEL_OBJECT]


def _link_command(toolchain: Toolchain, optimisation: Optimisation, core: Core, sources: Sequence[str]) -> list[str]:
    """Compile what is no object yet, and link."""
    libraries = ["-nostdlib", "-lgcc"] if toolchain is Toolchain.GCC else []
    return [*_compiler(toolchain, optimisation, core), *sources, *_LINK_FLAGS, *libraries, "-o", "firmware.elf"]


def _compiler(toolchain: Toolchain, optimisation: Optimisation, core: Core) -> list[str]:
    folders = [f"-I{folder}" for folder in ("kernels", "platform", "app", "playback", "model")]
    hard_float = core is not Core.CORTEX_M0PLUS
    if toolchain is Toolchain.ZIG:
        target = [
            "-target",
            f"thumb-freestanding-eabi{'hf' if hard_float else ''}",
            f"-mcpu={_ZIG_CORES[core]}",
        ]
        # Compiling does not use what only linking needs, and clang would say so for every file.
        quiet = "-Wno-unused-command-line-argument"
        compiler = [_zig(), "cc", *target, "-fno-sanitize=all", "-fno-stack-protector", quiet]
        return [*compiler, optimisation, *_COMPILE_FLAGS, *folders]
    target = ["-mthumb", f"-mcpu={core}", f"-mfloat-abi={'hard' if hard_float else 'soft'}", *_FLOATING_POINT[core]]
    return ["arm-none-eabi-gcc", *target, optimisation, *_COMPILE_FLAGS, *folders]


def _zig() -> str:
    """Return the compiler's path: its Python wrapper would outlive a time-out's kill, and costs a start of Python."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise CompilerUnavailableError(
            "the Python package ziglang is not installed; `pip install edgeloop[builder]` gets it"
        )
    return str(Path(found.origin).with_name("zig"))


def _environment(cache_dir: Path) -> dict[str, str]:
    cache_dir = cache_dir.absolute()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "LC_ALL": "C",
        "ZIG_GLOBAL_CACHE_DIR": str(cache_dir),
        "ZIG_LOCAL_CACHE_DIR": str(cache_dir),
    }


def _run(command: Sequence[str], workdir: Path, environment: dict[str, str]) -> str | None:
    """Return what the command said when it failed, None when it succeeded."""
    if shutil.which(command[0]) is None:
        raise CompilerUnavailableError(
            f"{command[0]} is not installed; `apt-get install gcc-arm-none-eabi` gets it; toolchain zig is always there"
        )
    with subprocess.Popen(  # noqa: S603 - a fixed command on files that were just written
        command,
        cwd=workdir,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        except BaseException as error:
            # Compilers start compilers: all of them end with the first.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CompilerUnavailableError(f"{_shown(command)} did not end within {_TIMEOUT_S:.0f} s") from error
            raise
    if process.returncode < 0 or (process.returncode and any(sign in output for sign in _DISK_IS_FULL)):
        raise CompilerUnavailableError(f"{_shown(command)} ended with {process.returncode}:\n{_tail(output)}")
    return None if process.returncode == 0 else output


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


def _refused(command: Sequence[str], output: str) -> CompilerError:
    return CompilerError(
        f"{_shown(command)} refused C that Edgeloop generated: this is Edgeloop's fault, not the repository's. "
        f"Next: report it with the model file and these lines:\n{_tail(output)}"
    )


def _shown(command: Sequence[str]) -> str:
    return f"{Path(command[0]).name} {' '.join(command[1:4])} …"


def _tail(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-_LINES_SHOWN:])


@cache
def _version(toolchain: Toolchain) -> str:
    if toolchain is Toolchain.ZIG:
        return f"zig {metadata.version('ziglang')} clang"
    done = subprocess.run(
        ["arm-none-eabi-gcc", "-dumpfullversion"],  # noqa: S607 - found on the PATH, as a user's compiler is
        capture_output=True,
        text=True,
        check=True,
    )
    return f"gcc {done.stdout.strip()}"


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
    if core not in _FLOATING_POINT:
        return None
    memory = _firmware_text("platform", "memory.c")
    for name, text in {**sources, "memory.c": memory, "link.ld": _firmware_text("library", "size.ld.in")}.items():
        (workdir / name).write_text(text, "utf-8")
    names = called_files(workdir, [name for name in (*sources, "memory.c") if name.endswith(".c")])
    command = _link_command(Toolchain.ZIG, Optimisation.SIZE, core, names)
    if (output := _run(command, workdir, _environment(cache_dir))) is not None:
        raise _refused(command, output)
    sections = {
        section.name: section.size_bytes for section in memory_sections((workdir / "firmware.elf").read_bytes())
    }
    code, data, zeros = (sections.get(name, 0) for name in (".text", ".data", ".bss"))
    return ModelSizes(
        flash_bytes=code + data, ram_bytes=data + zeros, toolchain=f"{_version(Toolchain.ZIG)} {Optimisation.SIZE}"
    )


def _firmware_text(*path: str) -> str:
    return resources.files("firmware").joinpath(*path).read_text("utf-8")
