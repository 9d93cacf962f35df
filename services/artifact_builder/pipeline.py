"""The build, stage by stage, from a commit to everything that a release is made of. It knows no bus and no store."""

import asyncio
import contextlib
import errno
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.artifact_builder import source, steps
from services.artifact_builder.codegen import GeneratedModel, MalformedModelError, UnsupportedModelError, generate
from services.artifact_builder.domain import (
    Artifact,
    MediaType,
    Packed,
    firmware_version,
    over_budget,
    release_of,
)
from services.artifact_builder.errors import AuthorError, BuildFailureError, InfrastructureError
from services.artifact_builder.firmware.compiling import (
    CompiledFirmware,
    CompilerError,
    CompilerUnavailableError,
    DoesNotFitError,
    compile_firmware,
)
from services.artifact_builder.firmware.signing import SigningError, sign_image
from services.artifact_builder.inputs.canonical import zipped
from services.artifact_builder.reference import golden_vector, reference_of
from services.artifact_builder.sandbox.engines import Engine, NoSandboxError, Sandbox
from services.artifact_builder.sandbox.opening import owner_of
from services.artifact_builder.sandbox.processes import SupervisorError
from services.artifact_builder.steps import Site
from services.artifact_builder.tools import Tools
from shared.boards import ImageBoard, NoImageError, image_board
from shared.events import Trigger
from shared.events.artifact import BuildStage, FirmwareSummary, StageTiming
from shared.inference import InferenceError, ReferenceMissingError
from shared.inference.tflm import require_tflm
from shared.releases.datasets import DatasetError
from shared.releases.manifest import Manifest
from shared.releases.manifest_loader import ManifestError, load_manifest
from shared.releases.release import Firmware, Release

AUTHOR_ERRORS: Final = (
    ManifestError,
    DatasetError,
    UnsupportedModelError,
    MalformedModelError,
    InferenceError,
    DoesNotFitError,
    NoImageError,
)
"""What adapters raise when the repository is at fault; each message names the place and the next step."""

MACHINE_ERRORS: Final = (ReferenceMissingError, SigningError, SupervisorError, CompilerUnavailableError)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. `production` holds the datasets, .npz, that retraining adds."""

    project: str
    repository: str
    commit: str
    trigger: Trigger = Trigger.PUSH
    production: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A release, and the bytes of everything that it names, itself included."""

    release: Release
    artifacts: tuple[Artifact, ...]
    stages: tuple[StageTiming, ...]
    sandbox: Engine

    @property
    def digest(self) -> str:
        return self.artifacts[-1].blob.digest

    @property
    def firmware(self) -> tuple[FirmwareSummary, ...]:
        return summaries(self.release)


def summaries(release: Release) -> tuple[FirmwareSummary, ...]:
    """Return what an event says of the release's firmware."""
    return tuple(
        FirmwareSummary(
            board=firmware.board,
            image=firmware.image.digest,
            flash_bytes=firmware.flash_bytes,
            ram_bytes=firmware.ram_bytes,
        )
        for firmware in release.firmware
    )


@dataclass(slots=True)
class Stages:
    """Times each stage, and turns what goes wrong in it into the two kinds of errors that there are."""

    timings: list[StageTiming] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, name: BuildStage) -> Iterator[None]:
        """Run one stage.

        Raises:
            BuildFailureError: the author's fault, or generated code that no compiler takes.
            InfrastructureError: the machine's, a full disk among others.
        """
        begun = time.perf_counter()
        try:
            yield
        except AuthorError as error:
            raise BuildFailureError(name, error.reason, error.last_lines) from error
        except CompilerError as error:
            # Ours, as the reason says. Trying again would not help, and the author must not wait for a verdict.
            reason, *lines = str(error).splitlines()
            raise BuildFailureError(name, reason, lines) from error
        except AUTHOR_ERRORS as error:
            raise BuildFailureError(name, str(error)) from error
        except MACHINE_ERRORS as error:
            raise InfrastructureError(str(error)) from error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise InfrastructureError(
                f"no space left on the disk of {error.filename or 'the builder'}: {error}"
            ) from error
        self.timings.append(StageTiming(stage=name, seconds=round(time.perf_counter() - begun, 3)))


def sandbox_for(repository: str, tools: Tools, work: Path) -> Sandbox:
    """Return what the code of `repository` runs in.

    Raises:
        InfrastructureError: nothing that this repository may run in works on this machine, or it is a missing folder.
    """
    if source.scheme_of(repository) == "file" and owner_of(repository) is None:
        raise InfrastructureError(f"repository {repository} cannot be read: there is no such folder")
    try:
        return tools.sandbox.open(source.without_secrets(repository), work / "sandbox")
    except NoSandboxError as error:
        raise InfrastructureError(str(error)) from error


async def build(request: BuildRequest, workspace: Path, tools: Tools) -> BuildResult:
    """Build one commit in `workspace`, an empty folder that the caller removes.

    Raises:
        BuildFailureError: the author's to mend.
        InfrastructureError: the same commit may build later.
    """
    tools.check_room(workspace)
    tools.public_key()
    stages = Stages()
    sandbox = sandbox_for(request.repository, tools, workspace)
    site = Site(checkout=workspace / "checkout", work=workspace, sandbox=sandbox)
    with stages.stage(BuildStage.CLONE):
        require_tflm()  # now, not after minutes of training
        await source.clone(
            request.repository,
            request.commit,
            site.checkout,
            limits=tools.limits(tools.clone_timeout_s),
            schemes=tools.url_schemes,
            allowed=tools.checkout,
        )
    return await build_checkout(request, site, tools, stages)


async def build_checkout(request: BuildRequest, site: Site, tools: Tools, stages: Stages | None = None) -> BuildResult:
    """Build what is checked out at `site` already: every stage after the clone. Raises as `build` does."""
    stages = stages or Stages()
    with stages.stage(BuildStage.MANIFEST):
        manifest = load_manifest(site.checkout)
    with stages.stage(BuildStage.DATA):
        prepared = await steps.prepare(manifest, site, request.production, tools)
    with stages.stage(BuildStage.TRAIN):
        keras = await steps.train(manifest, site, tools)
    with stages.stage(BuildStage.QUANTISE):
        model = await steps.convert(keras, prepared, manifest, site, tools)
    with stages.stage(BuildStage.GENERATE):
        generated = await asyncio.to_thread(generate, model.int8)
        reference = await asyncio.to_thread(reference_of, model.int8, generated.input, prepared.reference, manifest)
        golden = await asyncio.to_thread(golden_vector, model.int8, generated.input, prepared.test)
    int8 = Artifact(model.int8, MediaType.TFLITE, "model-int8.tflite")
    with stages.stage(BuildStage.COMPILE):
        boards = [image_board(name) for name in manifest.boards]
        compiled = _all_fit(
            await asyncio.gather(
                *(asyncio.to_thread(_compile, generated, board, int8, site, tools) for board in boards),
                return_exceptions=True,
            )
        )
        _within_budgets(manifest, boards, compiled)
    with stages.stage(BuildStage.SIGN):
        packing = _Packing(int8, _sources_of(generated), generated.arena_bytes, tools.signing_key)
        version = firmware_version(manifest.release, int8.blob.digest)
        packed = [packing.pack(board, binary, version) for board, binary in zip(boards, compiled, strict=True)]
    release, artifacts = release_of(
        project=request.project,
        repository=source.without_secrets(request.repository),
        commit=request.commit,
        trigger=request.trigger,
        manifest=manifest,
        model=model,
        int8=int8,
        quantisation=(generated.input, generated.output),
        datasets=prepared.files,
        production=request.production,
        firmware=packed,
        reference=reference,
        golden=golden,
    )
    return BuildResult(release, artifacts, tuple(stages.timings), site.sandbox.engine)


def _compile(
    generated: GeneratedModel, board: ImageBoard, int8: Artifact, site: Site, tools: Tools
) -> CompiledFirmware:
    tools.compiler_cache.mkdir(parents=True, exist_ok=True)
    return compile_firmware(
        generated,
        board,
        model_digest=int8.blob.digest,
        toolchain=tools.toolchain,
        workdir=site.folder(f"firmware/{board.name}"),
        cache_dir=tools.compiler_cache,
    )


def _all_fit(results: Sequence[CompiledFirmware | BaseException]) -> list[CompiledFirmware]:
    """Return the firmware of all boards, or raise: every board that is too small is named, in the manifest's order."""
    if misfits := [str(result) for result in results if isinstance(result, DoesNotFitError)]:
        raise AuthorError(misfits[0], misfits[1:])
    compiled = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        compiled.append(result)
    return compiled


def _within_budgets(manifest: Manifest, boards: Sequence[ImageBoard], compiled: Sequence[CompiledFirmware]) -> None:
    problems = [
        problem
        for board, firmware in zip(boards, compiled, strict=True)
        for problem in over_budget(manifest, board.name, firmware.flash_bytes, firmware.ram_bytes)
    ]
    if problems:
        raise AuthorError(problems[0], problems[1:])


def _sources_of(generated: GeneratedModel) -> Artifact:
    files = {name: text.encode() for name, text in generated.sources.items()}
    return Artifact(zipped(files), MediaType.ZIP, "model-sources.zip")


@dataclass(frozen=True, slots=True)
class _Packing:
    """What the firmware of all boards has in common."""

    int8: Artifact
    sources: Artifact
    arena_bytes: int
    key: Path

    def pack(self, board: ImageBoard, compiled: CompiledFirmware, version: str) -> Packed:
        """Sign one board's firmware, and list it with its bytes."""
        signed = sign_image(compiled.binary, board, version=version, model_digest=self.int8.blob.digest, key=self.key)
        image = Artifact(signed.data, MediaType.IMAGE, f"{board.name}.img")
        elf = Artifact(compiled.elf, MediaType.ELF, f"{board.name}.elf")
        firmware = Firmware(
            board=board.name,
            toolchain=compiled.toolchain,
            image=image.blob,
            elf=elf.blob,
            sources=self.sources.blob,
            image_hash=signed.image_hash,
            version=version,
            flash_bytes=compiled.flash_bytes,
            ram_bytes=compiled.ram_bytes,
            arena_bytes=self.arena_bytes,
        )
        return Packed(firmware, (image, elf, self.sources))
