"""`report.json`: what `edgeloop compile` made of a model, and what of it was measured. The config of its artifact."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, RootModel

from shared.boards import LibraryKind
from shared.boards.modelling import Figure
from shared.events import Digest
from shared.events.lab import Numerics, Origin

REPORT_FILE: Final = "report.json"
MODEL_FILE: Final = "model.tflite"
ELF_FILE: Final = "firmware.elf"
IMAGE_FILE: Final = "firmware.img"
BOARD_ANNOTATION: Final = "dev.edgeloop.board"
VERSION_ANNOTATION: Final = "org.opencontainers.image.version"


class CompileReport(BaseModel):
    """What the firmware takes and does. Sizes are read from the ELF, the rest counted on its core."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["image"] = "image"
    model: Digest = Field(description="Digest of the .tflite")
    board: str
    core: str
    numerics: Numerics
    operators: dict[str, int] = Field(description="How often each operator stands in the model")
    toolchain: str
    version: str = Field(description="As in the image header")
    image_hash: str = Field(description="SHA-256 of the image as MCUboot reports it, hex")
    flash_bytes: int = Field(description="What follows the image header in flash")
    model_flash_bytes: int = Field(
        description="Model and kernels, part of flash_bytes: the ELF's section .model, without the command line, "
        "start-up and C library"
    )
    ram_bytes: int = Field(description="Static: .data and .bss, without the stack")
    arena_bytes: int = Field(description="Planned activation memory, part of ram_bytes")
    weights_bytes: int = Field(description="Constants of the model, part of model_flash_bytes")
    stack_bytes: int = Field(description="High-water mark over one inference, by painting")
    macs: int = Field(description="Multiply-accumulates of one inference")
    instructions: int = Field(description="Of one inference, counted by running the image on the emulated core")
    counted_on: str = Field(description="Emulator and version")
    latency_ms: float | None = Field(default=None, description="Of one inference at the board's clock")
    latency_ms_class: Origin | None = Field(default=None, description="How it came to be: no board was at hand")
    latency_ms_basis: str = Field(default="", description="From what, and how far it may be off")
    energy_uj: float | None = Field(default=None, description="Of one inference; null where nothing is published")
    energy_uj_class: Origin | None = None
    energy_uj_basis: str = ""
    inputs: int = Field(description="How many inputs were compared with the reference")
    mismatches: int = Field(description="How many of them gave other bits than the reference")

    @property
    def latency(self) -> Figure | None:
        """The latency with what it is; None in reports of earlier versions."""
        return _figure(self.latency_ms, self.latency_ms_class, self.latency_ms_basis)

    @property
    def energy(self) -> Figure | None:
        """The energy with what it is; None in reports of earlier versions."""
        return _figure(self.energy_uj, self.energy_uj_class, self.energy_uj_basis)


def _figure(value: float | None, origin: Origin | None, basis: str) -> Figure | None:
    return None if origin is None else Figure(value, origin, basis)


class BuiltLibrary(BaseModel):
    """One library for the board."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: LibraryKind
    target: str = Field(description="What the kind's tools call the board")
    folder: str = Field(description="Where it stands unpacked")
    archive: str = Field(description="The same as a .zip")
    archive_digest: Digest
    how_to_build: str


class LibraryReport(BaseModel):
    """What is known of a model on a board that gets a library. What only the board's own tools can say is null."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["library"] = "library"
    model: Digest = Field(description="Digest of the .tflite")
    board: str
    core: str
    numerics: Numerics
    operators: dict[str, int] = Field(description="How often each operator stands in the model")
    toolchain: str = Field(description="What measured the sizes; empty where nothing compiles for the core")
    version: str
    flash_bytes: int | None = Field(description="Of model and kernels, linked alone for the core")
    ram_bytes: int | None = Field(description="Of the same: .data and .bss, without the stack")
    arena_bytes: int = Field(description="Planned activation memory, part of ram_bytes")
    weights_bytes: int = Field(description="Constants of the model, part of flash_bytes")
    macs: int = Field(description="Multiply-accumulates of one inference")
    instructions: None = Field(default=None, description="Never counted; `not_measured` says why")
    reason: str = Field(description="Why it is a library and no image")
    not_measured: str = Field(description="Why figures are null")
    libraries: tuple[BuiltLibrary, ...] = Field(min_length=1)


Report: TypeAlias = CompileReport | LibraryReport


class ReportDocument(RootModel[Annotated[Report, Field(discriminator="kind")]]):
    """The file, whichever kind of report it holds."""
