"""The compilers themselves, Zig's clang and GCC: their commands, how they run, and what they say when they refuse."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from services.artifact_builder.firmware.toolchains import Optimisation, Toolchain
from shared.boards import Core

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
SMALLEST = {Toolchain.ZIG: ("-Os", "-Xclang", "-Oz", "-flto"), Toolchain.GCC: ("-Os", "-flto")}


class CompilerError(RuntimeError):
    """The compiler refused what Edgeloop generated. No repository should be able to cause that."""


class CompilerUnavailableError(RuntimeError):
    """The compiler is missing, was killed, ran out of disk or never ended: the machine's trouble."""


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
        command = link_command(toolchain, Optimisation.SIZE, core, ["nothing.c"])
        if (output := run(command, Path(folder), environment_of(cache_dir))) is not None:
            raise refused(command, output)
    mark.touch()


def is_compiled_for(core: Core) -> bool:
    """Whether there is a compiler for a core."""
    return core in _ZIG_CORES


def combine_command(
    toolchain: Toolchain, optimisation: Optimisation, core: Core, sources: Sequence[str], made: str
) -> list[str]:
    """Compile, and make one object of it that keeps its sections."""
    return [*_compiler(toolchain, optimisation, core), *sources, "-r", "-nostdlib", "-o", made]


def link_command(toolchain: Toolchain, optimisation: Optimisation, core: Core, sources: Sequence[str]) -> list[str]:
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


def environment_of(cache_dir: Path) -> dict[str, str]:
    """Return the variables that a compiler sees: what it finds files by, one language, and its cache."""
    cache_dir = cache_dir.absolute()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "LC_ALL": "C",
        "ZIG_GLOBAL_CACHE_DIR": str(cache_dir),
        "ZIG_LOCAL_CACHE_DIR": str(cache_dir),
    }


def run(command: Sequence[str], workdir: Path, environment: dict[str, str]) -> str | None:
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


def refused(command: Sequence[str], output: str) -> CompilerError:
    """Return the error that a compiler does not take our C, with its last lines."""
    return CompilerError(
        f"{_shown(command)} refused C that Edgeloop generated: this is Edgeloop's fault, not the repository's. "
        f"Next: report it with the model file and these lines:\n{_tail(output)}"
    )


def _shown(command: Sequence[str]) -> str:
    return f"{Path(command[0]).name} {' '.join(command[1:4])} …"


def _tail(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-_LINES_SHOWN:])


@cache
def version_of(toolchain: Toolchain) -> str:
    """Return the compiler and its version, as reports have it."""
    if toolchain is Toolchain.ZIG:
        return f"zig {metadata.version('ziglang')} clang"
    done = subprocess.run(
        ["arm-none-eabi-gcc", "-dumpfullversion"],  # noqa: S607 - found on the PATH, as a user's compiler is
        capture_output=True,
        text=True,
        check=True,
    )
    return f"gcc {done.stdout.strip()}"
