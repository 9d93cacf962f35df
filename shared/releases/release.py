"""The release index: the one document that names everything a release is made of.

Its digest is the release's digest. It holds no time and no host, so the same inputs give the same digest.
"""

from pydantic import BaseModel, ConfigDict, Field

from shared.events import Blob, Commit, Slug, Trigger
from shared.events.dataset import DatasetRole
from shared.events.device import GoldenVector
from shared.releases.manifest import Manifest

HISTOGRAM_BINS = 32


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class Quantisation(_Part):
    """Affine int8: ``real = scale * (q - zero_point)``."""

    scale: float
    zero_point: int


class ModelFiles(_Part):
    """The model before and after quantisation."""

    source: Blob | None = Field(
        default=None, description="As the repository gave it, in canonical form; the media type says its format"
    )
    keras: Blob | None = Field(default=None, description="The source, when it is a Keras model")
    float32: Blob | None = Field(
        default=None,
        description=".tflite in float32: the reference for what quantisation costs; none when the source is int8",
    )
    int8: Blob = Field(description=".tflite in full int8: what runs on boards")
    input: Quantisation
    output: Quantisation


class Recipe(_Part):
    """What the model was converted with: its bits depend on all of it, the number of threads included."""

    tensorflow: str = Field(description="Version")
    keras: str = Field(description="Version")
    onnx: str | None = Field(default=None, description="Version, when the source is an ONNX model")
    onnxruntime: str | None = Field(default=None, description="Version of what the conversion was compared with")
    threads: int
    seed: int


class Parity(_Part):
    """How the converted float32 model compares with the runtime of its source format, on representative data."""

    runtime: str = Field(description="Name and version")
    rows: int
    maximum_difference: float = Field(description="Largest absolute difference between two output values")
    tolerance: float = Field(description="What was allowed of it")
    equal_answers: float = Field(description="Share of rows whose largest output is the same")


class Conversion(_Part):
    """What the conversion to int8 found out about the model and its data."""

    parity: Parity | None = None
    notes: tuple[str, ...] = Field(default=(), description="What its author should look at; nothing that fails a build")


class DatasetBlob(_Part):
    """One of the manifest's other datasets."""

    path: str
    role: DatasetRole
    blob: Blob


class Datasets(_Part):
    """The data that the release was trained and is judged on."""

    train: Blob
    test: Blob
    production: tuple[Blob, ...] = ()
    more: tuple[DatasetBlob, ...] = ()

    def named(self) -> dict[str, Blob]:
        """Return every dataset by the name that reports use: a further one's is its path, which ends in .npz."""
        further = {part.path: part.blob for part in self.more}
        return {"train": self.train, "test": self.test, **self.named_production(), **further}

    def named_production(self) -> dict[str, Blob]:
        """Return the datasets from the field that retraining took, likewise."""
        return {f"production[{index}]": blob for index, blob in enumerate(self.production)}


class Firmware(_Part):
    """One board's firmware."""

    board: Slug
    toolchain: str = Field(description="Compiler, version and optimisation level")
    image: Blob = Field(description="Signed MCUboot image")
    elf: Blob
    sources: Blob = Field(description="The generated C, as a .zip")
    image_hash: str = Field(description="SHA-256 of the image as MCUboot reports it, hex")
    version: str = Field(description="As in the image header: major.minor.revision+build")
    flash_bytes: int
    ram_bytes: int = Field(description="Static: .data and .bss, without the stack")
    arena_bytes: int = Field(description="Planned activation memory, part of ram_bytes")
    security_counter: int | None = Field(
        default=None, description="MCUboot refuses images with a smaller one, where downgrades are prevented"
    )
    instructions: int | None = Field(
        default=None, description="Of one inference, counted on the emulated core with the golden input"
    )


class Library(_Part):
    """The model as a library for a board that no image is built for: to be built with the vendor's own tools."""

    board: Slug
    kind: str = Field(description="arduino, zephyr, esp-idf or make")
    target: str = Field(description="What the tools of that kind call the board")
    archive: Blob = Field(description="The library, as a .zip")
    flash_bytes: int | None = Field(description="Model and kernels alone; none: no compiler for the core here")
    ram_bytes: int | None = Field(description="Likewise")
    arena_bytes: int = Field(description="Planned activation memory, part of ram_bytes")
    toolchain: str = Field(description="What the sizes were measured with; empty when they were not")
    reason: str = Field(description="Why there is no image")


class Reference(_Part):
    """What the input looked like in training: drift is measured against it.

    `counts[channel][bin]` counts the quantised inputs q of the reference dataset with ``(q + 128) >> 3 == bin``.
    """

    counts: tuple[tuple[int, ...], ...]
    class_counts: tuple[int, ...] = Field(description="int8 predictions per class on the reference dataset")
    rows: int


class Release(_Part):
    """A project's model at one commit, trained on given data, built for given boards."""

    project: Slug
    repository: str
    commit: Commit
    trigger: Trigger
    manifest: Manifest
    model: ModelFiles
    recipe: Recipe | None = None
    conversion: Conversion | None = None
    datasets: Datasets
    firmware: tuple[Firmware, ...]
    libraries: tuple[Library, ...] = ()
    reference: Reference
    golden: GoldenVector

    def to_bytes(self) -> bytes:
        """Return the canonical JSON whose SHA-256 is the release's digest."""
        return self.model_dump_json().encode()

    def firmware_for(self, board: str) -> Firmware | None:
        """Return the firmware built for `board`, if there is one."""
        return next((firmware for firmware in self.firmware if firmware.board == board), None)

    def libraries_for(self, board: str) -> tuple[Library, ...]:
        """Return the libraries made for `board`."""
        return tuple(library for library in self.libraries if library.board == board)
