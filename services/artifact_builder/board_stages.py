"""What a build does once for every board with an image: compile, sign, count instructions, hold against budgets."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.artifact_builder.caching.codecs import pack, unpack
from services.artifact_builder.caching.keys import NOT_IN_KEY, Files
from services.artifact_builder.codegen import GeneratedModel
from services.artifact_builder.domain import Artifact, Packed, over_budget, over_time_budget
from services.artifact_builder.errors import AuthorError
from services.artifact_builder.firmware.compiling import CompiledFirmware, DoesNotFitError, compile_firmware
from services.artifact_builder.firmware.signing import SignedImage, sign_image
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.inputs.canonical import zipped
from services.artifact_builder.measuring import count_instructions
from services.artifact_builder.stages import Part, Stages
from services.artifact_builder.tools import Tools
from shared.artifacts.oci import MediaType
from shared.boards import ImageBoard
from shared.emulation import EmulationError
from shared.releases.manifest import Manifest
from shared.releases.release import Firmware


@dataclass(frozen=True, slots=True)
class CompileInputs:
    """All that one board's firmware depends on."""

    generated: GeneratedModel
    board: ImageBoard
    model_digest: str
    toolchain: Toolchain


@dataclass(frozen=True, slots=True)
class SignInputs:
    """All that one board's image depends on."""

    binary: bytes
    board: ImageBoard
    version: str
    security_counter: int | None
    model_digest: str
    public_key: bytes
    key: Path | str = field(metadata=NOT_IN_KEY)


@dataclass(frozen=True, slots=True)
class CountInputs:
    """All that the count of one board's instructions depends on: a signature and a version change none."""

    binary: bytes
    board: ImageBoard
    tensor: bytes
    image: bytes = field(metadata=NOT_IN_KEY)


@dataclass(frozen=True, slots=True)
class Counted:
    """What one inference takes."""

    instructions: int


@dataclass(frozen=True, slots=True)
class BoardStages:
    """The parts of a build that every board has for itself, each remembered on its own."""

    tools: Tools
    stages: Stages
    folder: Callable[[str], Path]
    """Gives a folder of the build's work directory."""

    async def compile(self, generated: GeneratedModel, board: ImageBoard, int8: Artifact) -> CompiledFirmware:
        inputs = CompileInputs(generated, board, int8.blob.digest, self.tools.toolchain)

        def compiled() -> CompiledFirmware:
            self.tools.compiler_cache.mkdir(parents=True, exist_ok=True)
            return compile_firmware(
                inputs.generated,
                inputs.board,
                model_digest=inputs.model_digest,
                toolchain=inputs.toolchain,
                workdir=self.folder(f"firmware/{board.name}"),
                cache_dir=self.tools.compiler_cache,
            )

        async def work() -> Files:
            return pack(await asyncio.to_thread(compiled))

        return unpack(CompiledFirmware, await self.stages.remembered(Part.COMPILE, inputs, work))

    async def sign(
        self, binary: bytes, board: ImageBoard, int8: Artifact, version: str, security_counter: int | None
    ) -> SignedImage:
        inputs = SignInputs(
            binary=binary,
            board=board,
            version=version,
            security_counter=security_counter,
            model_digest=int8.blob.digest,
            public_key=self.tools.public_key(),
            key=self.tools.signing_key,
        )

        async def work() -> Files:
            return pack(
                sign_image(
                    inputs.binary,
                    inputs.board,
                    version=inputs.version,
                    model_digest=inputs.model_digest,
                    key=inputs.key,
                    security_counter=inputs.security_counter,
                )
            )

        return unpack(SignedImage, await self.stages.remembered(Part.SIGN, inputs, work))

    async def count(self, board: ImageBoard, binary: bytes, image: bytes, tensor: bytes) -> Counted:
        inputs = CountInputs(binary, board, tensor, image)

        async def work() -> Files:
            try:
                counted = await asyncio.to_thread(count_instructions, inputs.image, inputs.board, inputs.tensor)
            except EmulationError as error:
                raise AuthorError(
                    f"firmware for {board.name} does not run on its emulated core: {error}. This is Edgeloop's fault, "
                    "not the repository's. Next: report it with the model file"
                ) from error
            return pack(Counted(counted))

        return unpack(Counted, await self.stages.remembered(Part.COUNT, inputs, work))


def all_fit(results: Sequence[CompiledFirmware | BaseException]) -> list[CompiledFirmware]:
    """Return the firmware of all boards, or raise: every board that is too small is named, in the manifest's order."""
    if misfits := [str(result) for result in results if isinstance(result, DoesNotFitError)]:
        raise AuthorError(misfits[0], misfits[1:])
    compiled = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        compiled.append(result)
    return compiled


def require_sizes(manifest: Manifest, boards: Sequence[ImageBoard], compiled: Sequence[CompiledFirmware]) -> None:
    """Raise AuthorError naming every board whose firmware is larger than its budget."""
    problems = [
        problem
        for board, firmware in zip(boards, compiled, strict=True)
        for problem in over_budget(manifest, board.name, firmware.flash_bytes, firmware.ram_bytes)
    ]
    if problems:
        raise AuthorError(problems[0], problems[1:])


def require_time_and_energy(manifest: Manifest, boards: Sequence[ImageBoard], counted: Sequence[Counted]) -> None:
    """Raise AuthorError naming every board on which an inference takes more than its budget."""
    problems = [
        problem
        for board, found in zip(boards, counted, strict=True)
        for problem in over_time_budget(manifest.budgets.get(board.name), board, found.instructions)
    ]
    if problems:
        raise AuthorError(problems[0], problems[1:])


def sources_of(generated: GeneratedModel) -> Artifact:
    """Return the generated C as one file."""
    files = {name: text.encode() for name, text in generated.sources.items()}
    return Artifact(zipped(files), MediaType.ZIP, "firmware/model-sources.zip")


@dataclass(frozen=True, slots=True)
class Packing:
    """What the firmware of all boards has in common."""

    sources: Artifact
    arena_bytes: int
    version: str

    def pack(self, board: ImageBoard, compiled: CompiledFirmware, signed: SignedImage, counted: Counted) -> Packed:
        """List one board's firmware, with its bytes."""
        image = Artifact(signed.data, MediaType.IMAGE, f"firmware/{board.name}.img")
        elf = Artifact(compiled.elf, MediaType.ELF, f"firmware/{board.name}.elf")
        firmware = Firmware(
            board=board.name,
            toolchain=compiled.toolchain,
            image=image.blob,
            elf=elf.blob,
            sources=self.sources.blob,
            image_hash=signed.image_hash,
            version=self.version,
            flash_bytes=compiled.flash_bytes,
            ram_bytes=compiled.ram_bytes,
            arena_bytes=self.arena_bytes,
            security_counter=signed.security_counter,
            instructions=counted.instructions,
        )
        return Packed(firmware, (image, elf, self.sources))
