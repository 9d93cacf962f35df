"""One int8 model for one board, without a repository: generate, compile, sign, run on the emulated core, report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.codegen.reader import read_graph
from services.artifact_builder.domain import firmware_version
from services.artifact_builder.firmware.compiling import CompiledFirmware, compile_firmware
from services.artifact_builder.firmware.signing import SignedImage, sign_image
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.measuring import Measurement, measure, probing_inputs
from services.artifact_builder.packaging.compiled import packed_compilation
from services.artifact_builder.signers import signer_for
from shared.artifacts.compilation import ELF_FILE, IMAGE_FILE, MODEL_FILE, CompileReport, Report
from shared.artifacts.oci import ArtifactFile, MediaType
from shared.artifacts.provenance import CompilationParameters
from shared.boards import ImageBoard
from shared.boards.modelling import modelled_energy, modelled_latency
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.inference.reference import reference_outputs

_SOURCES: Final = {".c": MediaType.C_SOURCE, ".h": MediaType.C_SOURCE, ".ld": MediaType.TEXT}


@dataclass(frozen=True, slots=True)
class Compilation:
    """What compiling gave."""

    report: Report
    files: tuple[ArtifactFile, ...]
    """All that the artifact consists of, as `packed_compilation` returns it: the OCI manifest last."""


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
        services.artifact_builder.key_uri.SignerError: there is no usable key.
        shared.inference.InferenceError, shared.inference.ReferenceUnavailableError: no reference to compare with.
    """
    signer = signer_for(bench.key)
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
    signed = sign_image(compiled.binary, board, version=version, model_digest=digest, key=signer)
    tensors = probing_inputs(generated.input_bytes, rows) if inputs is None else inputs
    measured = measure(signed.data, board, tensors, reference_outputs(numerics, tflite, tensors))
    made = (generated, compiled, signed)
    report = _report(tflite, board, numerics=numerics, made=made, version=version, measured=measured)
    files = [
        ArtifactFile(tflite, MediaType.TFLITE, MODEL_FILE),
        *_sources(bench.work),
        ArtifactFile(compiled.elf, MediaType.ELF, ELF_FILE),
        ArtifactFile(signed.data, MediaType.IMAGE, IMAGE_FILE),
    ]
    asked = CompilationParameters(
        model=digest, board=board.name, numerics=numerics, toolchain=bench.toolchain, release=release
    )
    return Compilation(report, packed_compilation(report, files, asked=asked, signer=signer))


def operators_of(tflite: bytes) -> dict[str, int]:
    """Return how often each operator stands in a model."""
    return dict(Counter(operator.name for operator in read_graph(tflite).operators))


def _sources(work: Path) -> Sequence[ArtifactFile]:
    """Return what the compiler read, so that any other build system can build the same."""
    files = sorted(file for file in work.rglob("*") if file.suffix in _SOURCES)
    return [ArtifactFile(file.read_bytes(), _SOURCES[file.suffix], file.relative_to(work).as_posix()) for file in files]


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
    latency = modelled_latency(measured.instructions, board)
    figures = latency.fields("latency_ms") | modelled_energy(latency, board).fields("energy_uj")
    counted = CompileReport(
        model=digest_of(tflite),
        board=board.name,
        core=board.core,
        numerics=numerics,
        operators=operators_of(tflite),
        toolchain=compiled.toolchain,
        version=version,
        image_hash=signed.image_hash,
        flash_bytes=compiled.flash_bytes,
        model_flash_bytes=compiled.model_flash_bytes,
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
    return CompileReport.model_validate(counted.model_dump() | figures)
