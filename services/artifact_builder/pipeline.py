"""The build, stage by stage, from a commit to everything that a release is made of. It knows no bus and no store.

What a stage depends on is one value, its inputs: its work sees nothing else of the build, and its key is their digest.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.artifact_builder import source, steps
from services.artifact_builder.board_stages import (
    BoardStages,
    Packing,
    all_fit,
    require_sizes,
    require_time_and_energy,
    sources_of,
)
from services.artifact_builder.caching.codecs import pack, unpack
from services.artifact_builder.caching.keys import Files
from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.domain import (
    Artifact,
    PackedLibrary,
    firmware_version,
    release_of,
)
from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.firmware.compilers import CompilerError, CompilerUnavailableError, warm_up
from services.artifact_builder.inputs.quantising import ConversionInputs, Converted, convert
from services.artifact_builder.inputs.sources import Source
from services.artifact_builder.libraries import facts_of, images_of, pack_libraries
from services.artifact_builder.packaging.assemble import packed
from services.artifact_builder.packaging.snapshot import snapshot_of
from services.artifact_builder.programs import Room
from services.artifact_builder.reference import Expected, ExpectedInputs, expected_of
from services.artifact_builder.sandbox.engines import Engine, NoSandboxError, Sandbox
from services.artifact_builder.sandbox.opening import owner_of
from services.artifact_builder.stages import Memory, Part, Stages
from services.artifact_builder.steps import DataInputs, Script, TestInputs, TrainInputs, digest_of_executable
from services.artifact_builder.tools import Tools
from services.artifact_builder.trees import Tree
from shared.artifacts.oci import MediaType
from shared.events import Trigger
from shared.events.artifact import BuildStage, FirmwareSummary, StageTiming
from shared.events.device import GoldenVector
from shared.events.lab import Numerics
from shared.inference.tflm import require_tflm
from shared.releases.datasets import read_dataset
from shared.releases.manifest import Manifest, Step
from shared.releases.manifest_loader import MANIFEST_NAME, load_manifest
from shared.releases.release import Release

T = TypeVar("T")


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
    """What the repository's code ran in, when it ran."""

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


@dataclass(frozen=True, slots=True)
class Site:
    """Where one build happens: the checkout, beside it what stages write, and what the repository's code runs in."""

    checkout: Path
    work: Path
    sandbox: Sandbox

    def folder(self, name: str) -> Path:
        """Return a folder of the work directory; made when it is missing."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path


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


async def build(request: BuildRequest, workspace: Path, tools: Tools, memory: Memory | None = None) -> BuildResult:
    """Build one commit in `workspace`, an empty folder that the caller removes.

    Raises:
        BuildFailureError: the author's to mend.
        InfrastructureError: the same commit may build later.
    """
    tools.check_room(workspace)
    tools.public_key()
    stages = Stages(request.project, memory)
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
    return await Build(request, site, tools, stages or Stages(request.project)).run()


@dataclass(frozen=True, slots=True)
class GenerateInputs:
    """All that the generated C depends on."""

    int8: bytes
    numerics: Numerics


@dataclass(frozen=True, slots=True)
class Build:
    """One build. Each stage is a method that gives the next one its inputs."""

    request: BuildRequest
    site: Site
    tools: Tools
    stages: Stages

    async def run(self) -> BuildResult:
        stage = self.stages.stage
        with stage(BuildStage.MANIFEST):
            manifest = load_manifest(self.site.checkout)
            manifest_file = (self.site.checkout / MANIFEST_NAME).read_bytes()
            snapshot = await asyncio.to_thread(snapshot_of, self.site.checkout)
            tree = await asyncio.to_thread(Tree.of, self.site.checkout)
        with stage(BuildStage.DATA):
            data = await self.prepare(manifest, tree)
        warming = asyncio.create_task(asyncio.to_thread(self._warm_up, manifest))
        try:
            return await self._from_data(manifest, tree, data, manifest_file=manifest_file, snapshot=snapshot)
        finally:
            warming.cancel()

    def _warm_up(self, manifest: Manifest) -> None:
        """Make the compiler ready while one thread trains and the other cores wait; compiling waits by Zig's locks."""
        cache = self.tools.compiler_cache
        with contextlib.suppress(CompilerError, CompilerUnavailableError, OSError):  # compiling says it, and as whose
            cache.mkdir(parents=True, exist_ok=True)
            for core in sorted({board.core for board in images_of(manifest)}):
                warm_up(core, self.tools.toolchain, cache)

    async def _from_data(
        self, manifest: Manifest, tree: Tree, data: Files, *, manifest_file: bytes, snapshot: bytes
    ) -> BuildResult:
        stage = self.stages.stage
        with stage(BuildStage.TRAIN):
            given = await self.train(manifest, tree, data)
            await self._test(manifest, tree, data, given)
        datasets = steps.datasets(data)
        with stage(BuildStage.QUANTISE):
            model = await self.quantise(manifest, datasets, given)
        with stage(BuildStage.GENERATE):
            generated = await self._generate(manifest, model)
            expected = await self._expected(manifest, model, generated, datasets)
        int8 = Artifact(model.int8, MediaType.TFLITE, "model/model-int8.tflite")
        on_boards = BoardStages(self.tools, self.stages, self.site.folder)
        with stage(BuildStage.COMPILE):
            boards = images_of(manifest)
            compiled = all_fit(
                await asyncio.gather(
                    *(on_boards.compile(generated, board, int8) for board in boards), return_exceptions=True
                )
            )
            require_sizes(manifest, boards, compiled)
            golden = GoldenVector(input=expected.golden_input, output=expected.golden_output)
            libraries = await asyncio.to_thread(self._libraries, manifest, generated, int8, golden)
        with stage(BuildStage.SIGN):
            version = firmware_version(manifest.release, int8.blob.digest)
            signed = [
                await on_boards.sign(binary.binary, board, int8, version, manifest.security_counter)
                for board, binary in zip(boards, compiled, strict=True)
            ]
            counted = [
                await on_boards.count(board, binary.binary, image.data, expected.golden_input)
                for board, binary, image in zip(boards, compiled, signed, strict=True)
            ]
            require_time_and_energy(manifest, boards, counted)
            packing = Packing(sources_of(generated), generated.arena_bytes, version)
            release, files = release_of(
                project=self.request.project,
                repository=source.without_secrets(self.request.repository),
                commit=self.request.commit,
                trigger=self.request.trigger,
                manifest=manifest,
                model=model,
                int8=int8,
                quantisation=(generated.input, generated.output),
                datasets=datasets,
                production=self.request.production,
                firmware=[packing.pack(*made) for made in zip(boards, compiled, signed, counted, strict=True)],
                libraries=libraries,
                reference=expected.reference,
                golden=golden,
            )
            whole = await asyncio.to_thread(
                packed, release, files, snapshot=snapshot, manifest_file=manifest_file, signer=self.tools.signer()
            )
        return BuildResult(release, whole, tuple(self.stages.timings), self.site.sandbox.engine)

    async def prepare(self, manifest: Manifest, tree: Tree) -> Files:
        """Return the datasets, and what the preparation left: see `steps.datasets` and `steps.left_by_preparation`.

        Raises:
            AuthorError: the step failed, or did not write what the manifest says; or the model cannot be retrained.
        """
        if self.request.production and manifest.model.train is None:
            raise AuthorError(
                f"model.file ({manifest.model.file}) is a finished model: production data cannot retrain it. Next: "
                "train it on them yourself and push the new file, or give edgeloop.yaml a model.train step"
            )
        for index, part in enumerate(self.request.production):
            name = f"production[{index}]"
            steps.of_shape(read_dataset(part, name=name), manifest.input.shape, "production data")
        step, declared = manifest.data.prepare, _declared_datasets(manifest)
        inputs = DataInputs(
            program=await self._program("data.prepare", step, manifest, tree),
            executable=digest_of_executable(step.command) if step else "",
            engine=self.site.sandbox.engine,
            tree=Tree(tree.root, ()) if step else tree.following([path for _, _, path in declared]),
            files=declared,
            shape=manifest.input.shape,
            production=tuple(self.request.production),
        )
        return await self.stages.remembered(Part.DATA, inputs, lambda: steps.prepare(inputs, self._room("data")))

    async def train(self, manifest: Manifest, tree: Tree, data: Files) -> Source:
        """Return the model; `data` is what `prepare` gave.

        Raises:
            AuthorError: the step failed, or there is no such model.
        """
        step, path = manifest.model.train, manifest.model.file or manifest.model.path
        inputs = TrainInputs(
            program=await self._program("model.train", step, manifest, tree),
            executable=digest_of_executable(step.command) if step else "",
            engine=self.site.sandbox.engine,
            tree=Tree(tree.root, ()) if step else tree.following([path]),
            path=path,
            data=steps.left_by_preparation(data) if step else {},
            production=tuple(self.request.production) if manifest.data.prepare is None else (),
        )

        async def work() -> Files:
            return pack(await steps.train(inputs, self._room("train")))

        return unpack(Source, await self.stages.remembered(Part.TRAIN, inputs, work))

    async def _test(self, manifest: Manifest, tree: Tree, data: Files, model: Source) -> None:
        program = await self._program("tests", manifest.tests, manifest, tree)
        if program is None:
            return
        path = manifest.model.file or manifest.model.path
        inputs = TestInputs(
            program=program,
            executable=digest_of_executable(program.command),
            engine=self.site.sandbox.engine,
            path=path,
            model=model,
            data=steps.left_by_preparation(data),
        )
        await self.stages.remembered(Part.TESTS, inputs, lambda: steps.run_tests(inputs, self._room("tests")))

    def _room(self, name: str) -> Room:
        return Room.of(self.site.work / name, self.site.sandbox, self.tools, self.stages.note_program)

    async def _program(self, key: str, step: Step | None, manifest: Manifest, tree: Tree) -> Script | None:
        if step is None:
            return None
        seen = await asyncio.to_thread(tree.for_step, key, step.inputs)
        return Script(key, step.command, seen, manifest.model.seed, step.timeout_s)

    async def quantise(self, manifest: Manifest, datasets: Files, source: Source) -> Converted:
        """Return the model in float32 and int8.

        Raises:
            AuthorError: it cannot be converted; the reason names the layer or shape.
        """
        inputs = ConversionInputs(
            source=source,
            train=datasets["train"],
            window=manifest.input.shape,
            classes=len(manifest.labels),
            seed=manifest.model.seed,
            engine=self.site.sandbox.engine,
        )

        async def work() -> Files:
            return pack(await convert(inputs, self._room("quantise")))

        return unpack(Converted, await self.stages.remembered(Part.QUANTISE, inputs, work))

    async def _generate(self, manifest: Manifest, model: Converted) -> GeneratedModel:
        inputs = GenerateInputs(model.int8, manifest.model.numerics)

        async def work() -> Files:
            return pack(await asyncio.to_thread(generate, inputs.int8, inputs.numerics))

        return unpack(GeneratedModel, await self.stages.remembered(Part.GENERATE, inputs, work))

    async def _expected(
        self, manifest: Manifest, model: Converted, generated: GeneratedModel, datasets: Files
    ) -> Expected:
        """Return what boards are compared with. The fleet senses the production data, once there is any."""
        inputs = ExpectedInputs(
            int8=model.int8,
            numerics=manifest.model.numerics,
            quantisation=generated.input,
            sensed=tuple(self.request.production) or (datasets["train"],),
            test=datasets["test"],
            classes=len(manifest.labels),
            engine=self.site.sandbox.engine,
        )

        async def work() -> Files:
            return pack(await expected_of(inputs, self._room("reference")))

        return unpack(Expected, await self.stages.remembered(Part.REFERENCE, inputs, work))

    def _libraries(
        self, manifest: Manifest, generated: GeneratedModel, int8: Artifact, golden: GoldenVector
    ) -> list[PackedLibrary]:
        facts = facts_of(
            manifest,
            project=self.request.project,
            repository=source.without_secrets(self.request.repository),
            model_digest=int8.blob.digest,
            golden=golden,
        )
        return pack_libraries(manifest, generated, facts, folder=self.site.folder, cache_dir=self.tools.compiler_cache)


def _declared_datasets(manifest: Manifest) -> tuple[tuple[str, str, str], ...]:
    """Return of each dataset the name, its key in the manifest, and its path."""
    data = manifest.data
    return (
        ("train", "data.train.path", data.train.path),
        ("test", "data.test.path", data.test.path),
        *((file.path, f"data.more[{index}].path", file.path) for index, file in enumerate(data.more)),
    )
