"""`report.json`: what `edgeloop compile` made of a model, and what of it was measured. The config of its artifact."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from shared.events import Digest
from shared.events.lab import Numerics

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
    ram_bytes: int = Field(description="Static: .data and .bss, without the stack")
    arena_bytes: int = Field(description="Planned activation memory, part of ram_bytes")
    weights_bytes: int = Field(description="Constants of the model, part of flash_bytes")
    stack_bytes: int = Field(description="High-water mark over one inference, by painting")
    macs: int = Field(description="Multiply-accumulates of one inference")
    instructions: int = Field(description="Of one inference, counted by running the image on the emulated core")
    counted_on: str = Field(description="Emulator and version")
    inputs: int = Field(description="How many inputs were compared with the reference")
    mismatches: int = Field(description="How many of them gave other bits than the reference")


class ReportDocument(RootModel[CompileReport]):
    """The file, whichever kind of report it holds."""
