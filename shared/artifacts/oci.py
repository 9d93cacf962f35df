"""The artifact as one OCI image manifest: its config says what it is, its layers are files with titles.

Of a release the config is the release index, of a compilation its report.

Source: OCI image format specification 1.1, manifest.md ("Guidelines for Artifact Usage") and image-layout.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.events import Blob, Digest, digest_of
from shared.events.dataset import DATASET_MEDIA_TYPE

MANIFEST_MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE: Final = "application/vnd.oci.image.index.v1+json"
TITLE: Final = "org.opencontainers.image.title"
PREPROCESSING: Final = "dev.edgeloop.preprocessing"
"""On the repository's snapshot: a JSON list of the files that turn sensor data into the model's input."""
TESTS: Final = "dev.edgeloop.tests"
"""On the repository's snapshot: the command, as a JSON list, that runs the repository's tests."""
_RESERVED: Final = ("oci-layout", "index.json", "blobs")


class ArtifactType(StrEnum):
    """What an artifact is. Its config has the media type of the same name."""

    RELEASE = "application/vnd.edgeloop.release.v1+json"
    """What a stack built from a commit."""
    COMPILATION = "application/vnd.edgeloop.compilation.v1+json"
    """What `edgeloop compile` made of one model file, without a repository."""


class MediaType(StrEnum):
    """What the files of an artifact are."""

    RELEASE = ArtifactType.RELEASE
    COMPILATION = ArtifactType.COMPILATION
    KERAS = "application/vnd.keras"
    SAVED_MODEL = "application/vnd.tensorflow.saved-model+zip"
    ONNX = "application/vnd.onnx"
    TFLITE = "application/vnd.tflite"
    DATASET = DATASET_MEDIA_TYPE
    IMAGE = "application/vnd.mcuboot.image"
    ELF = "application/x-elf"
    ZIP = "application/zip"
    C_SOURCE = "text/x-c"
    TEXT = "text/plain"
    SNAPSHOT = "application/vnd.edgeloop.repository.v1.tar"
    ENVIRONMENT = "application/vnd.edgeloop.environment.v1+json"
    REQUIREMENTS = "text/x-python-requirements"
    MODEL_CARD = "text/markdown"
    BOM = "application/vnd.cyclonedx+json"
    PROVENANCE = "application/vnd.in-toto.provenance+dsse"


def _safe_title(title: str) -> str:
    path = PurePosixPath(title)
    if (
        str(path) != title
        or path.is_absolute()
        or not title.isprintable()
        or "\\" in title
        or any(part in ("..", ".") for part in path.parts)
        or not path.parts
        or path.parts[0] in _RESERVED
    ):
        raise ValueError(f"{title!r} is no plain relative path outside {', '.join(_RESERVED)}")
    return title


@dataclass(frozen=True)
class ArtifactFile:
    """A file on its way into an artifact. `name` is its title: a relative path."""

    data: bytes = field(repr=False)
    media_type: str
    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def blob(self) -> Blob:
        """The reference that the object store will give."""
        return Blob.of(self.data, media_type=self.media_type, name=self.name)

    @property
    def descriptor(self) -> "Descriptor":
        """How the manifest names it."""
        return Descriptor(
            mediaType=self.media_type,
            digest=self.blob.digest,
            size=self.blob.size_bytes,
            annotations={**self.annotations, TITLE: self.name},
        )


class _Document(BaseModel):
    # Field names are the specification's own.
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """Return the one JSON that this artifact format writes: no spaces, keys in the specification's order."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False).encode()


class Descriptor(_Document):
    """A reference to one blob."""

    mediaType: str = Field(min_length=1)  # noqa: N815
    digest: Digest
    size: int = Field(ge=0)
    annotations: dict[str, str]

    @property
    def title(self) -> str:
        """The file's relative path."""
        return self.annotations[TITLE]

    @model_validator(mode="after")
    def _is_titled(self) -> "Descriptor":
        if TITLE not in self.annotations:
            raise ValueError(f"the descriptor of {self.digest} has no annotation {TITLE}")
        _safe_title(self.title)
        return self


def _distinct(layers: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    titles = {layer.title for layer in layers}
    if len(titles) != len(layers):
        raise ValueError("two layers have one title")
    for title in titles:
        if clash := titles.intersection(map(str, PurePosixPath(title).parents)):
            raise ValueError(f"{clash.pop()!r} is the title of a file, and the folder of {title!r}")
    return layers


class ArtifactManifest(_Document):
    """An OCI image manifest. The SHA-256 of its bytes is the artifact's digest, and the release's."""

    schemaVersion: Literal[2] = 2  # noqa: N815
    mediaType: Literal["application/vnd.oci.image.manifest.v1+json"] = MANIFEST_MEDIA_TYPE  # noqa: N815
    artifactType: ArtifactType = ArtifactType.RELEASE  # noqa: N815
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], AfterValidator(_distinct)] = Field(min_length=1)
    annotations: dict[str, str]

    @model_validator(mode="after")
    def _config_is_of_its_type(self) -> "ArtifactManifest":
        if self.config.mediaType != self.artifactType:
            raise ValueError(f"the config is a {self.config.mediaType}; it must be a {self.artifactType}")
        _distinct((self.config, *self.layers))
        return self

    @property
    def files(self) -> tuple[Descriptor, ...]:
        """Everything that the manifest names, the config first."""
        return (self.config, *self.layers)

    def layers_of(self, media_type: MediaType) -> tuple[Descriptor, ...]:
        """Return the layers of one type."""
        return tuple(layer for layer in self.layers if layer.mediaType == media_type)


def manifest_of(
    config: ArtifactFile, layers: Sequence[ArtifactFile], annotations: Mapping[str, str]
) -> ArtifactManifest:
    """Return the manifest of an artifact; layers are sorted by title, so that equal files give equal digests.

    Raises:
        ValueError: the config is of no type that an artifact has.
        pydantic.ValidationError: a title is no safe path, or names two files.
    """
    return ArtifactManifest(
        artifactType=ArtifactType(config.media_type),
        config=config.descriptor,
        layers=tuple(layer.descriptor for layer in sorted(layers, key=lambda layer: layer.name)),
        annotations=dict(sorted(annotations.items())),
    )


def is_manifest(data: bytes) -> bool:
    """Return whether the bytes are an OCI manifest; releases of Edgeloop 0.1 are a bare release index."""
    document: Any = json.loads(data)
    return isinstance(document, dict) and document.get("mediaType") == MANIFEST_MEDIA_TYPE


LAYOUT_FILE: Final = "oci-layout"
LAYOUT_BYTES: Final = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE: Final = "index.json"


def layout_index(manifest: bytes, artifact_type: ArtifactType) -> bytes:
    """Return the `index.json` of a layout that holds this one artifact."""
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX_MEDIA_TYPE,
        "manifests": [
            {
                "mediaType": MANIFEST_MEDIA_TYPE,
                "artifactType": artifact_type,
                "digest": digest_of(manifest),
                "size": len(manifest),
            }
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def blob_path(digest: str) -> str:
    """Return where a layout keeps a blob, for example ``blobs/sha256/5a…``."""
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"
