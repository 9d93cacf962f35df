"""What a model becomes for any board of the catalogue: linked firmware, or libraries."""

from pathlib import Path
from typing import TypeAlias, overload

from services.artifact_builder.codegen import GeneratedModel
from services.artifact_builder.firmware.compiling import CompiledFirmware, compile_firmware
from services.artifact_builder.firmware.libraries import LibraryPackage, ModelFacts, build_libraries
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import Board, ImageBoard, LibraryBoard

BuiltForBoard: TypeAlias = CompiledFirmware | tuple[LibraryPackage, ...]


@overload
def build_for(
    board: ImageBoard,
    model: GeneratedModel,
    facts: ModelFacts,
    *,
    workdir: Path,
    cache_dir: Path,
    toolchain: Toolchain = ...,
) -> CompiledFirmware: ...
@overload
def build_for(
    board: LibraryBoard,
    model: GeneratedModel,
    facts: ModelFacts,
    *,
    workdir: Path,
    cache_dir: Path,
    toolchain: Toolchain = ...,
) -> tuple[LibraryPackage, ...]: ...
def build_for(
    board: Board,
    model: GeneratedModel,
    facts: ModelFacts,
    *,
    workdir: Path,
    cache_dir: Path,
    toolchain: Toolchain = Toolchain.ZIG,
) -> BuiltForBoard:
    """Build a model for a board: whole where that can be done here, else as every library that the board asks for.

    Args:
        board: decides which.
        model: what `generate` returned.
        facts: digest, golden vector and names; firmware takes the digest alone.
        workdir: an existing folder; sources and results are left in it.
        cache_dir: Zig's cache, worth sharing between builds.
        toolchain: of firmware; the C of libraries is compiled with Zig's clang, for its size.

    Raises:
        DoesNotFitError: the board is too small.
        UnsupportedModelError: a library cannot hold the model.
        CompilerError, CompilerUnavailableError: as `compile_firmware`.
    """
    if isinstance(board, LibraryBoard):
        return build_libraries(model, facts, board, workdir=workdir, cache_dir=cache_dir)
    return compile_firmware(
        model, board, model_digest=facts.digest, toolchain=toolchain, workdir=workdir, cache_dir=cache_dir
    )
