"""Libraries for boards whose toolchain or SDK is in no package registry: model, kernels, a sample, a self-test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.artifact_builder.codegen import GeneratedModel
from services.artifact_builder.firmware.compiling import DoesNotFitError, ModelSizes, Shortage, measure_alone
from services.artifact_builder.firmware.libraries.arduino import arduino_library
from services.artifact_builder.firmware.libraries.contents import LibraryOrder, ModelFacts, sources_of
from services.artifact_builder.firmware.libraries.esp_idf import esp_idf_component
from services.artifact_builder.firmware.libraries.make import make_library
from services.artifact_builder.firmware.libraries.zephyr import zephyr_module
from services.artifact_builder.inputs.canonical import zipped
from shared.boards import LibraryBoard, LibraryKind, LibraryTarget

__all__ = ["LibraryPackage", "ModelFacts", "build_libraries"]

_WRITERS: Final[Mapping[LibraryKind, Callable[[LibraryOrder], Mapping[str, str]]]] = {
    LibraryKind.ARDUINO: arduino_library,
    LibraryKind.ZEPHYR: zephyr_module,
    LibraryKind.ESP_IDF: esp_idf_component,
    LibraryKind.MAKE: make_library,
}


@dataclass(frozen=True, slots=True)
class LibraryPackage:
    """A library as one archive, and what is known of it."""

    board: LibraryBoard
    target: LibraryTarget
    files: Mapping[str, str]
    """By path, the root folder included."""
    sizes: ModelSizes | None
    """Of model and kernels alone; none when there is no compiler for the core here."""

    @property
    def file_name(self) -> str:
        return f"{self.board.name}-{self.target.kind}.zip"

    @property
    def archive(self) -> bytes:
        """The .zip; the same files give the same bytes."""
        return zipped({path: text.encode() for path, text in self.files.items()})


def build_libraries(
    model: GeneratedModel, facts: ModelFacts, board: LibraryBoard, *, workdir: Path, cache_dir: Path
) -> tuple[LibraryPackage, ...]:
    """Write every library that the board asks for, and compile its C for the board's core where that can be done.

    Args:
        model: what `generate` returned.
        facts: what the library says of it.
        board: gives the core and the kinds of library.
        workdir: an existing folder; what is compiled is left in it.
        cache_dir: Zig's cache.

    Raises:
        DoesNotFitError: model and kernels alone are larger than the board.
        CompilerError, CompilerUnavailableError: as `compile_firmware`.
    """
    sizes = measure_alone(sources_of(model, facts), board.core, workdir=workdir, cache_dir=cache_dir)
    return tuple(_package(LibraryOrder(model, facts, board, target, sizes)) for target in board.libraries)


def _package(order: LibraryOrder) -> LibraryPackage:
    _require_fit(order)
    files = _WRITERS[order.target.kind](order)
    rooted = {f"{order.facts.identifier}/{path}": text for path, text in sorted(files.items())}
    return LibraryPackage(order.board, order.target, rooted, order.sizes)


def _require_fit(order: LibraryOrder) -> None:
    """Refuse what cannot fit. A board's own program comes on top, so that what passes here may still be too large."""
    flash, ram = (order.sizes.flash_bytes, order.sizes.ram_bytes) if order.sizes else (0, 0)
    needed = (
        ("flash", max(flash, order.model.weights_bytes), order.target.program_bytes),
        ("RAM", max(ram, order.model.arena_bytes), order.target.data_bytes),
    )
    shortages = [Shortage(region, size, available) for region, size, available in needed if size > available]
    if shortages:
        raise DoesNotFitError(order.board.name, *shortages)
