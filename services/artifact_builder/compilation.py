"""One int8 model for one board, without a repository: generate, compile, sign, run on the emulated core, report."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.codegen.reader import read_graph
from services.artifact_builder.domain import firmware_version
from services.artifact_builder.firmware.compiling import CompiledFirmware, Toolchain, compile_firmware
from services.artifact_builder.firmware.signing import SignedImage, sign_image
from services.artifact_builder.measuring import Measurement, measure, probing_inputs
from shared.boards import ImageBoard
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.inference.reference import reference_outputs

REPORT_FILE: Final = "report.json"
_SOURCES: Final = frozenset({".c", ".h", ".ld"})


class CompileReport(BaseModel):
    """`report.json`: what the firmware takes and does. Sizes are read from the ELF, the rest counted on its core."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="Digest of the .tflite")
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


@dataclass(frozen=True, slots=True)
class Compilation:
    """Everything that compiling gave."""

    sources: Mapping[str, bytes]
    """All that was compiled and linked, by relative path: the model, kernels, platform, application, linker script."""
    compiled: CompiledFirmware
    signed: SignedImage
    report: CompileReport

    def files(self) -> Mapping[str, bytes]:
        """Return what to keep, by relative path: the C, the ELF, the signed image, the report."""
        return {
            **self.sources,
            "firmware.elf": self.compiled.elf,
            "firmware.img": self.signed.data,
            REPORT_FILE: (self.report.model_dump_json(indent=2) + "\n").encode(),
        }


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a compilation works with."""

    key: Path
    """The private key, PEM."""
    work: Path
    """An empty folder; sources and objects are left in it."""
    compiler_cache: Path
    toolchain: Toolchain = Toolchain.ZIG


def compile_model(
    tflite: bytes,
    board: ImageBoard,
    bench: Workbench,
    *,
    numerics: Numerics = Numerics.TFLM,
    release: str = "1.0.0",
    inputs: npt.NDArray[np.int8] | None = None,
    rows: int = 5,
) -> Compilation:
    """Compile a full-int8 .tflite for an emulated board, run it there, and compare its bits with the reference's.

    Args:
        tflite: the model.
        board: where it runs.
        bench: key, folders and compiler.
        numerics: whose bits the firmware gives.
        release: version of the image, ``major.minor.revision``.
        inputs: what to run, shape (rows, input bytes); `rows` random and extreme ones unless given.
        rows: how many of those.

    Raises:
        MalformedModelError, UnsupportedModelError: the model's fault, by operator and tensor.
        DoesNotFitError: the board is too small.
        CompilerError, CompilerUnavailableError, SigningError: as their functions say.
        shared.inference.InferenceError, shared.inference.ReferenceMissingError: there is no reference to compare with.
    """
    generated = generate(tflite, numerics)
    digest = digest_of(tflite)
    compiled = compile_firmware(
        generated,
        board,
        model_digest=digest,
        toolchain=bench.toolchain,
        workdir=bench.work,
        cache_dir=bench.compiler_cache,
    )
    version = firmware_version(release, digest)
    signed = sign_image(compiled.binary, board, version=version, model_digest=digest, key=bench.key)
    tensors = probing_inputs(generated.input_bytes, rows) if inputs is None else inputs
    measured = measure(signed.data, board, tensors, reference_outputs(numerics, tflite, tensors))
    return Compilation(
        sources=_sources(bench.work),
        compiled=compiled,
        signed=signed,
        report=_report(
            tflite,
            board,
            numerics=numerics,
            made=(generated, compiled, signed),
            version=version,
            measured=measured,
        ),
    )


def _sources(work: Path) -> Mapping[str, bytes]:
    """Return what the compiler read, so that any other build system can build the same."""
    files = sorted(file for file in work.rglob("*") if file.suffix in _SOURCES)
    return {str(file.relative_to(work)): file.read_bytes() for file in files}


def _report(
    tflite: bytes,
    board: ImageBoard,
    *,
    numerics: Numerics,
    made: tuple[GeneratedModel, CompiledFirmware, SignedImage],
    version: str,
    measured: Measurement,
) -> CompileReport:
    generated, compiled, signed = made
    return CompileReport(
        model=digest_of(tflite),
        board=board.name,
        core=board.core,
        numerics=numerics,
        operators=dict(Counter(operator.name for operator in read_graph(tflite).operators)),
        toolchain=compiled.toolchain,
        version=version,
        image_hash=signed.image_hash,
        flash_bytes=compiled.flash_bytes,
        ram_bytes=compiled.ram_bytes,
        arena_bytes=generated.arena_bytes,
        weights_bytes=generated.weights_bytes,
        stack_bytes=measured.stack_bytes,
        macs=generated.macs,
        instructions=measured.instructions,
        counted_on=measured.emulator,
        inputs=measured.inputs,
        mismatches=measured.mismatches,
    )
