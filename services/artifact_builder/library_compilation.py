"""One int8 model as the libraries of a board that no image is built for, without a repository."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.compilation import Compilation, Workbench, operators_of
from services.artifact_builder.domain import firmware_version
from services.artifact_builder.firmware.building import build_for
from services.artifact_builder.firmware.libraries import LibraryPackage, ModelFacts
from services.artifact_builder.measuring import probing_inputs
from services.artifact_builder.packaging.compiled import packed_compilation
from services.artifact_builder.signers import signer_for
from shared.artifacts.compilation import MODEL_FILE, BuiltLibrary, LibraryReport
from shared.artifacts.oci import ArtifactFile, MediaType
from shared.artifacts.provenance import CompilationParameters
from shared.boards import LibraryBoard
from shared.events import digest_of
from shared.events.device import GoldenVector
from shared.events.lab import Numerics
from shared.inference.reference import reference_outputs

_CODE: Final = frozenset({".c", ".h", ".cpp", ".ino"})
_FOLDER: Final = "library"


def compile_library(
    tflite: bytes,
    board: LibraryBoard,
    bench: Workbench,
    *,
    name: str,
    numerics: Numerics = Numerics.TFLM,
    release: str = "1.0.0",
    inputs: npt.NDArray[np.int8] | None = None,
) -> Compilation:
    """Write the libraries of a full-int8 .tflite for a board, with a self-test that holds the reference's bits.

    Args:
        tflite: the model.
        board: decides which libraries.
        bench: key, folders; the compiler is Zig's clang, for the sizes.
        name: of the libraries; what no C name can hold is left out.
        numerics: whose bits the library gives.
        release: version of the library, ``major.minor.revision``.
        inputs: the self-test runs the first, shape (rows, input bytes); a random one unless given.

    Raises:
        MalformedModelError, UnsupportedModelError: the model's fault, by operator and tensor.
        DoesNotFitError: the board is too small.
        CompilerError, CompilerUnavailableError: as their functions say.
        services.artifact_builder.key_uri.SignerError: there is no usable key.
        shared.inference.InferenceError, shared.inference.ReferenceUnavailableError: there is no reference to store.
    """
    signer = signer_for(bench.key)
    generated = generate(tflite, numerics)
    digest = digest_of(tflite)
    first = (probing_inputs(generated.input_bytes, 1) if inputs is None else inputs)[:1]
    golden = GoldenVector(input=first.tobytes(), output=reference_outputs(numerics, tflite, first).tobytes())
    facts = ModelFacts(name=_slug(name), version=release, digest=digest, golden=golden)
    packages = build_for(board, generated, facts, workdir=bench.work, cache_dir=bench.compiler_cache)
    report = _report(tflite, generated, packages, numerics=numerics, version=firmware_version(release, digest))
    asked = CompilationParameters(
        model=digest, board=board.name, numerics=numerics, toolchain=bench.toolchain, release=release
    )
    files = [ArtifactFile(tflite, MediaType.TFLITE, MODEL_FILE)]
    files += [file for package in packages for file in _files(package)]
    return Compilation(report, packed_compilation(report, files, asked=asked, signer=signer))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def _archive(package: LibraryPackage) -> ArtifactFile:
    return ArtifactFile(package.archive, MediaType.ZIP, f"{_FOLDER}/{package.file_name}")


def _files(package: LibraryPackage) -> Sequence[ArtifactFile]:
    """Return a library twice: as the archive that installers take, and unpacked for people and build systems."""
    unpacked = [
        ArtifactFile(
            text.encode(),
            MediaType.C_SOURCE if PurePosixPath(path).suffix in _CODE else MediaType.TEXT,
            f"{_FOLDER}/{package.target.kind}/{path}",
        )
        for path, text in package.files.items()
    ]
    return [_archive(package), *unpacked]


def _built(package: LibraryPackage) -> BuiltLibrary:
    archive = _archive(package)
    [root] = {PurePosixPath(path).parts[0] for path in package.files}
    folder = f"{_FOLDER}/{package.target.kind}/{root}"
    return BuiltLibrary(
        kind=package.target.kind,
        target=package.target.target,
        folder=folder,
        archive=archive.name,
        archive_digest=archive.blob.digest,
        how_to_build=f"{folder}/README.md has the commands, for {package.target.target}",
    )


def _report(
    tflite: bytes,
    generated: GeneratedModel,
    packages: Sequence[LibraryPackage],
    *,
    numerics: Numerics,
    version: str,
) -> LibraryReport:
    board, sizes = packages[0].board, packages[0].sizes
    unsized = "" if sizes else f"No compiler for {board.core} is in the package registry, so sizes are not measured. "
    return LibraryReport(
        model=digest_of(tflite),
        board=board.name,
        core=board.core,
        numerics=numerics,
        operators=operators_of(tflite),
        toolchain=sizes.toolchain if sizes else "",
        version=version,
        flash_bytes=sizes.flash_bytes if sizes else None,
        ram_bytes=sizes.ram_bytes if sizes else None,
        arena_bytes=generated.arena_bytes,
        weights_bytes=generated.weights_bytes,
        macs=generated.macs,
        reason=board.reason,
        not_measured=f"{unsized}Instructions are counted by running an image, and {board.name} gets a library: build "
        "it with the board's tools, and run its self-test on the board",
        libraries=tuple(_built(package) for package in packages),
    )
