"""Compiling one model file for one board: what the command does beyond the builder's own function."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeloop.errors import EdgeloopError, GateFailedError, InfrastructureError, UsageError
from edgeloop.layout import Layout, compiler_cache
from edgeloop.stack.secrets import ensure_signing_key
from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError
from services.artifact_builder.compilation import Compilation, Workbench, compile_model
from services.artifact_builder.firmware.compilers import CompilerError, CompilerUnavailableError
from services.artifact_builder.firmware.compiling import DoesNotFitError
from services.artifact_builder.firmware.signing import SigningError
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.library_compilation import compile_library
from shared.artifacts.compilation import IMAGE_FILE, REPORT_FILE, LibraryReport
from shared.artifacts.layout import write_layout
from shared.artifacts.oci import LAYOUT_FILE
from shared.boards import Board, ImageBoard, LibraryBoard, UnknownBoardError, board_named, image_boards
from shared.emulation import EmulationError
from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceUnavailableError

_AUTHOR: Final = (
    MalformedModelError,
    UnsupportedModelError,
    DoesNotFitError,
    SigningError,
    SignerError,
    InferenceError,
)
_MACHINE: Final = (CompilerError, CompilerUnavailableError, ReferenceUnavailableError, EmulationError)
_LARGEST_MODEL_BYTES: Final = 64 * 2**20


def board_of(name: str) -> Board:
    """Return a board of the catalogue.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return board_named(name)
    except UnknownBoardError as error:
        raise UsageError(f"--board: {error}") from error


def emulated_board(board: Board) -> ImageBoard:
    """Return a board that emulators stand for.

    Raises:
        UsageError: nothing emulates it.
    """
    if not isinstance(board, ImageBoard):
        raise UsageError(f"--board {board.name}: nothing emulates it", next_step=f"take {', '.join(image_boards())}")
    return board


def model_bytes(file: Path) -> bytes:
    """Return a .tflite file's bytes.

    Raises:
        UsageError: it is too large to be a model for a microcontroller.
    """
    size = file.stat().st_size
    if size > _LARGEST_MODEL_BYTES:
        raise UsageError(f"{file}: {size:,} bytes; a model file may have {_LARGEST_MODEL_BYTES:,}")
    return file.read_bytes()


def recorded_inputs(folder: Path) -> npt.NDArray[np.int8]:
    """Return the input tensors in a folder: one file of int8 values each, ``*.bin``, in the order of their names.

    Raises:
        UsageError: there are none, or they differ in size.
    """
    files = sorted(folder.glob("*.bin"))
    if not files:
        raise UsageError(f"--inputs {folder}: no .bin files", next_step="give a folder with one int8 tensor a file")
    tensors = [file.read_bytes() for file in files]
    for file, tensor in zip(files, tensors, strict=True):
        if len(tensor) != len(tensors[0]):
            raise UsageError(f"{file}: {len(tensor)} bytes, and {files[0].name} has {len(tensors[0])}")
    return np.stack([np.frombuffer(tensor, np.int8) for tensor in tensors])


def compile_file(
    model: Path,
    board: Board,
    *,
    numerics: Numerics,
    toolchain: Toolchain,
    release: str,
    key: Path | None,
    inputs: Path | None,
    data: Path,
) -> Compilation:
    """Compile `model` for `board`. The signing key is the stack's unless one is given; it is made when missing.

    Raises:
        UsageError: the model, the board or the key is at fault.
        InfrastructureError: the machine is.
    """
    if isinstance(board, LibraryBoard) and toolchain is not Toolchain.ZIG:
        raise UsageError(
            f"--toolchain {toolchain}: {board.name} gets a library, whose C is compiled with zig for its size alone",
            next_step="leave --toolchain out",
        )
    layout = Layout(data)
    if key is None:
        ensure_signing_key(layout)
    tensors = recorded_inputs(inputs) if inputs else None
    with tempfile.TemporaryDirectory(prefix="edgeloop-compile-") as work:
        bench = Workbench(
            key=key or layout.signing_key,
            work=Path(work),
            compiler_cache=compiler_cache(),
            toolchain=toolchain,
        )
        bench.compiler_cache.mkdir(parents=True, exist_ok=True)
        with explained(model):
            content = model_bytes(model)
            if isinstance(board, LibraryBoard):
                return compile_library(
                    content, board, bench, name=model.stem, numerics=numerics, release=release, inputs=tensors
                )
            return compile_model(content, board, bench, numerics=numerics, release=release, inputs=tensors)


@contextlib.contextmanager
def explained(model: Path) -> Iterator[None]:
    """Turn what compiling a model raises into errors of a command.

    Raises:
        UsageError: the model, the board or the key is at fault.
        InfrastructureError: the machine is.
    """
    try:
        yield
    except _AUTHOR as error:
        raise UsageError(f"{model}: {error}") from error
    except _MACHINE as error:
        raise InfrastructureError(f"{model}: {error}") from error


def require_replaceable(out: Path) -> None:
    """Raise UsageError when `out` holds something that no compilation wrote."""
    written = (out / REPORT_FILE).is_file() and ((out / LAYOUT_FILE).is_file() or (out / IMAGE_FILE).is_file())
    if out.exists() and any(out.iterdir()) and not written:
        raise UsageError(
            f"--out {out}: not empty, and no earlier compilation", next_step="name a new or an empty directory"
        )


def write_files(compilation: Compilation, out: Path) -> Sequence[str]:
    """Write the artifact to `out` and return the titles of its files.

    An earlier compilation stays as it is until the new one is whole on the disk, and then gives way to it.
    """
    *files, manifest = compilation.files
    directory = out.resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        fresh, earlier = Path(beside, "new"), Path(beside, "old")
        write_layout(fresh, manifest.data, {file.blob.digest: file.data for file in files}.__getitem__)
        if directory.exists():
            directory.rename(earlier)
        fresh.rename(directory)
    return tuple(file.name for file in files)


def mismatch_of(compilation: Compilation) -> EdgeloopError | None:
    """Return the error of a firmware whose bits are not the reference's."""
    report = compilation.report
    if isinstance(report, LibraryReport) or not report.mismatches:
        return None
    return differing_bits(report.mismatches, report.inputs, report.numerics)


def differing_bits(mismatches: int, inputs: int, numerics: Numerics) -> EdgeloopError:
    """Return the error of firmware that does not give the bits of its reference."""
    return GateFailedError(
        f"{mismatches} of {inputs} outputs differ from {numerics} in at least one bit",
        next_step="report it with the model file: generated firmware must give the reference's bits",
    )
