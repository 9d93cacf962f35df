"""The libraries of a release: for the boards of the manifest that no image is built for."""

from collections.abc import Callable
from pathlib import Path

from services.artifact_builder.codegen import GeneratedModel
from services.artifact_builder.domain import Artifact, PackedLibrary, over_budget
from services.artifact_builder.errors import AuthorError
from services.artifact_builder.firmware.building import build_for
from services.artifact_builder.firmware.compiling import DoesNotFitError
from services.artifact_builder.firmware.libraries import LibraryPackage, ModelFacts
from shared.artifacts.oci import MediaType
from shared.boards import ImageBoard, LibraryBoard, board_named
from shared.events.device import GoldenVector
from shared.releases.manifest import Manifest
from shared.releases.release import Library


def images_of(manifest: Manifest) -> list[ImageBoard]:
    """Return the manifest's boards that images are built for, in its order."""
    return [board for board in map(board_named, manifest.boards) if isinstance(board, ImageBoard)]


def facts_of(
    manifest: Manifest, *, project: str, repository: str, model_digest: str, golden: GoldenVector
) -> ModelFacts:
    """Return what the libraries say of the model."""
    return ModelFacts(
        name=project,
        version=manifest.release,
        digest=model_digest,
        golden=golden,
        labels=manifest.labels,
        shape=manifest.input.shape,
        channels=manifest.input.channels,
        licence=manifest.licences.model or "",
        repository=repository if repository.startswith("https://") else "",
    )


def pack_libraries(
    manifest: Manifest, generated: GeneratedModel, facts: ModelFacts, *, folder: Callable[[str], Path], cache_dir: Path
) -> list[PackedLibrary]:
    """Build the libraries of every board that has no image, in the manifest's order.

    Args:
        manifest: names the boards and their budgets.
        generated: the model as C.
        facts: what `facts_of` returned.
        folder: gives a folder of the build by name, made when it is missing.
        cache_dir: Zig's cache.

    Raises:
        AuthorError: what does not fit its board or its budget; every board that is concerned is named.
        UnsupportedModelError, CompilerError, CompilerUnavailableError: as `build_for`.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    packages: list[LibraryPackage] = []
    problems: list[str] = []
    for board in map(board_named, manifest.boards):
        if isinstance(board, LibraryBoard):
            try:
                built = build_for(board, generated, facts, workdir=folder(f"library/{board.name}"), cache_dir=cache_dir)
            except DoesNotFitError as error:
                problems.append(str(error))
                continue
            packages += built
            sizes = built[0].sizes
            if sizes is not None:
                problems += over_budget(manifest, board.name, sizes.flash_bytes, sizes.ram_bytes)
    if problems:
        raise AuthorError(problems[0], problems[1:])
    return [_packed(package, generated.arena_bytes) for package in packages]


def _packed(package: LibraryPackage, arena_bytes: int) -> PackedLibrary:
    archive = Artifact(package.archive, MediaType.ZIP, f"firmware/{package.file_name}")
    library = Library(
        board=package.board.name,
        kind=package.target.kind,
        target=package.target.target,
        archive=archive.blob,
        flash_bytes=package.sizes.flash_bytes if package.sizes else None,
        ram_bytes=package.sizes.ram_bytes if package.sizes else None,
        arena_bytes=arena_bytes,
        toolchain=package.sizes.toolchain if package.sizes else "",
        reason=package.board.reason,
    )
    return PackedLibrary(library, archive)
