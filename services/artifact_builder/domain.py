"""What a release is made of, and the decisions of the builder: pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shared.artifacts.oci import ArtifactFile, MediaType
from shared.boards import ImageBoard
from shared.boards.modelling import modelled_energy, modelled_latency
from shared.events import Trigger
from shared.events.device import GoldenVector
from shared.releases.manifest import Budget, Manifest
from shared.releases.model_formats import ModelFormat
from shared.releases.release import (
    Conversion,
    DatasetBlob,
    Datasets,
    Firmware,
    Library,
    ModelFiles,
    Quantisation,
    Recipe,
    Reference,
    Release,
)

Artifact = ArtifactFile


@dataclass(frozen=True, slots=True)
class Packed:
    """One board's entry in the release index, and the bytes that it names."""

    firmware: Firmware
    artifacts: tuple[Artifact, ...]


class SourceModel(Protocol):
    """A model as its repository gave it."""

    @property
    def format(self) -> ModelFormat: ...
    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PackedLibrary:
    """One library's entry in the release index, and its archive."""

    library: Library
    archive: Artifact


class ModelBytes(Protocol):
    """A model before and after quantisation."""

    @property
    def source(self) -> SourceModel: ...
    @property
    def float32(self) -> bytes | None: ...
    @property
    def recipe(self) -> Recipe | None: ...
    @property
    def conversion(self) -> Conversion: ...


_SOURCES: Final[Mapping[ModelFormat, tuple[MediaType, str]]] = {
    ModelFormat.KERAS: (MediaType.KERAS, "model/model.keras"),
    ModelFormat.SAVED_MODEL: (MediaType.SAVED_MODEL, "model/model-saved.zip"),
    ModelFormat.ONNX: (MediaType.ONNX, "model/model.onnx"),
    ModelFormat.TFLITE: (MediaType.TFLITE, "model/model-int8.tflite"),
}


def firmware_version(release: str, model_digest: str) -> str:
    """Return ``1.2.3+build``: the build number is the first 32 bits of the int8 model's digest."""
    return f"{release}+{int(model_digest.removeprefix('sha256:')[:8], 16)}"


def over_budget(manifest: Manifest, board: str, flash_bytes: int, ram_bytes: int) -> list[str]:
    """Return what the firmware takes beyond the manifest's budget for the board."""
    budget = manifest.budgets.get(board)
    if budget is None:
        return []
    taken = (("flash_bytes", flash_bytes, budget.flash_bytes), ("ram_bytes", ram_bytes, budget.ram_bytes))
    return [
        f"firmware for {board} takes {used:,} bytes of {name.removesuffix('_bytes')}; allowed are {allowed:,} "
        f"(budgets.{board}.{name}). Next: make the model smaller, or raise the budget in edgeloop.yaml"
        for name, used, allowed in taken
        if allowed is not None and used > allowed
    ]


def over_time_budget(budget: Budget | None, board: ImageBoard, instructions: int) -> list[str]:
    """Return what an inference takes, modelled, beyond the manifest's budget for the board."""
    if budget is None:
        return []
    latency = modelled_latency(instructions, board)
    taken = (
        ("latency_ms", "ms", latency, budget.latency_ms),
        ("energy_uj", "µJ", modelled_energy(latency, board), budget.energy_uj),
    )
    return [
        f"an inference on {board.name} takes {figure.value:.3g} {unit}, modelled ({figure.basis}); "
        f"allowed are {allowed:g} (budgets.{board.name}.{key}). Next: make the model smaller, or raise the budget in "
        "edgeloop.yaml"
        for key, unit, figure, allowed in taken
        if allowed is not None and figure.value is not None and figure.value > allowed
    ]


def build_key(
    *, project: str, repository: str, commit: str, trigger: Trigger, production: Sequence[str], toolbox: str
) -> str:
    """Return the key under which a build is remembered: equal keys give equal releases.

    Args:
        project: part of the release index, as are the next three.
        repository: where the commit comes from.
        commit: the commit.
        trigger: why it is built.
        production: digests of the production datasets, in the order of training.
        toolbox: digest of everything that builds: see `fingerprint.toolbox_digest`.
    """
    parts = (project, repository, commit, trigger, *production, toolbox)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def release_of(
    *,
    project: str,
    repository: str,
    commit: str,
    trigger: Trigger,
    manifest: Manifest,
    model: ModelBytes,
    int8: Artifact,
    quantisation: tuple[Quantisation, Quantisation],
    datasets: Mapping[str, bytes],
    production: Sequence[bytes],
    firmware: Sequence[Packed],
    libraries: Sequence[PackedLibrary] = (),
    reference: Reference,
    golden: GoldenVector,
) -> tuple[Release, tuple[Artifact, ...]]:
    """Return the release index, and everything to store in the order of storing: what names others comes last."""
    source = Artifact(model.source.data, *_SOURCES[model.source.format])
    float32 = None if model.float32 is None else Artifact(model.float32, MediaType.TFLITE, "model/model-float32.tflite")
    train, test = (Artifact(datasets[name], MediaType.DATASET, f"data/{name}.npz") for name in ("train", "test"))
    more = [
        (file, Artifact(datasets[file.path], MediaType.DATASET, f"data/more/{file.path}"))
        for file in manifest.data.more
    ]
    field_data = [Artifact(data, MediaType.DATASET, f"data/production-{n}.npz") for n, data in enumerate(production)]
    release = Release(
        project=project,
        repository=repository,
        commit=commit,
        trigger=trigger,
        manifest=manifest,
        model=ModelFiles(
            source=source.blob,
            keras=source.blob if model.source.format is ModelFormat.KERAS else None,
            float32=None if float32 is None else float32.blob,
            int8=int8.blob,
            input=quantisation[0],
            output=quantisation[1],
        ),
        recipe=model.recipe,
        conversion=model.conversion,
        datasets=Datasets(
            train=train.blob,
            test=test.blob,
            production=tuple(part.blob for part in field_data),
            more=tuple(DatasetBlob(path=file.path, role=file.role, blob=part.blob) for file, part in more),
        ),
        firmware=tuple(part.firmware for part in firmware),
        libraries=tuple(part.library for part in libraries),
        reference=reference,
        golden=golden,
    )
    index = Artifact(release.to_bytes(), MediaType.RELEASE, "release.json")
    built = [artifact for part in firmware for artifact in part.artifacts]
    built += [part.archive for part in libraries]
    data = [train, test, *(part for _, part in more), *field_data]
    every = [source, *([] if float32 is None else [float32]), int8, *data, *built, index]
    return release, tuple({artifact.name: artifact for artifact in every}.values())
