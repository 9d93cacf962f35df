"""An artifact as a directory: an OCI image layout, in which each file also stands under its title, for people."""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, Field, ValidationError

from shared.artifacts.oci import (
    INDEX_FILE,
    LAYOUT_BYTES,
    LAYOUT_FILE,
    MANIFEST_MEDIA_TYPE,
    ArtifactManifest,
    blob_path,
    layout_index,
)
from shared.events import Digest, digest_of

_PARTIAL: Final = ".partial"
MAXIMUM_INDEX_BYTES: Final = 64 * 1024
MAXIMUM_MANIFEST_BYTES: Final = 4 * 2**20
"""What registries take."""
Document = TypeVar("Document", bound=BaseModel)


class LayoutError(ValueError):
    """A directory that is not an artifact, or cannot become one; the message says which file, and what to do."""


def write_layout(directory: Path, manifest: bytes, read: Callable[[str], bytes]) -> None:
    """Write an artifact to `directory`, which appears whole or not at all.

    Titled files are copies: whoever edits one damages no blob, and `verify` names the file that differs.

    Args:
        directory: must not exist, or be empty.
        manifest: the manifest's bytes.
        read: returns the bytes with a digest.

    Raises:
        LayoutError: the directory is not empty.
        pydantic.ValidationError: the manifest is none.
        OSError: the disk.
    """
    parsed = ArtifactManifest.model_validate_json(manifest)
    if directory.is_symlink() or (directory.exists() and not (directory.is_dir() and not any(directory.iterdir()))):
        raise LayoutError(f"{directory} exists and is no empty directory; name another, or remove it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}{_PARTIAL}")
    try:
        _write(partial / LAYOUT_FILE, LAYOUT_BYTES)
        _write(partial / INDEX_FILE, layout_index(manifest, parsed.artifactType))
        _write(partial / blob_path(digest_of(manifest)), manifest)
        for file in parsed.files:
            data = read(file.digest)
            _write(partial / blob_path(file.digest), data)
            _write(partial / file.title, data)
        if directory.exists():
            directory.rmdir()
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@dataclass(frozen=True, slots=True)
class OpenedLayout:
    """The one artifact in a layout."""

    manifest: bytes
    exported: bool
    """Written by `write_layout`, with titled files; else by another tool, which copies blobs only."""


class _ForeignManifest(BaseModel):
    mediaType: Literal["application/vnd.oci.image.manifest.v1+json"]  # noqa: N815 - the specification's own names
    digest: Digest
    size: int


class _ForeignIndex(BaseModel):
    schemaVersion: Literal[2]  # noqa: N815
    manifests: tuple[_ForeignManifest] = Field(description="Exactly one")


class _ForeignMarker(BaseModel):
    imageLayoutVersion: Literal["1.0.0"]  # noqa: N815


def open_layout(directory: Path) -> OpenedLayout:
    """Find the one artifact in a layout.

    What `write_layout` wrote is compared byte for byte; what another tool wrote, by its meaning.

    Raises:
        LayoutError: names the file that is not what it must be.
    """
    marker = read_regular(directory, LAYOUT_FILE, MAXIMUM_INDEX_BYTES)
    index = read_regular(directory, INDEX_FILE, MAXIMUM_INDEX_BYTES)
    _read(_ForeignMarker, marker, LAYOUT_FILE)
    [named] = _read(_ForeignIndex, index, INDEX_FILE).manifests
    manifest = read_regular(directory, blob_path(named.digest), MAXIMUM_MANIFEST_BYTES)
    if (digest_of(manifest), len(manifest)) != (named.digest, named.size):
        raise LayoutError(
            f"{INDEX_FILE} names a manifest of {named.size} bytes, {named.digest}; its blob has {len(manifest)} bytes, "
            f"{digest_of(manifest)}"
        )
    written = layout_index(manifest, parse_manifest(manifest).artifactType)
    return OpenedLayout(manifest, exported=(marker, index) == (LAYOUT_BYTES, written))


def _read(model: type[Document], data: bytes, name: str) -> Document:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        [first, *_] = error.errors()
        place = ".".join(map(str, first["loc"])) or "document"
        raise LayoutError(f"{name}: {place}: {first['msg']}; it must name one {MANIFEST_MEDIA_TYPE}") from error


def read_regular(directory: Path, name: str, maximum_bytes: int | None = None) -> bytes:
    """Return the content of a regular file; links are not followed, in no part of the path.

    Raises:
        LayoutError: there is no such file, it is something else, or it is too large.
    """
    path = directory
    for part in Path(name).parts:
        path /= part
        if path.is_symlink():
            raise LayoutError(f"{name}: {path.name} is a symbolic link; an artifact holds none")
    try:
        found = path.lstat()
    except OSError as error:
        raise LayoutError(f"{name}: missing") from error
    if not stat.S_ISREG(found.st_mode):
        raise LayoutError(f"{name}: not a regular file")
    if maximum_bytes is not None and found.st_size > maximum_bytes:
        raise LayoutError(f"{name}: {found.st_size} bytes; allowed are {maximum_bytes}")
    return path.read_bytes()


def expected_files(found: OpenedLayout, parsed: ArtifactManifest) -> set[str]:
    """Return the path of every file that the layout has."""
    return {
        LAYOUT_FILE,
        INDEX_FILE,
        blob_path(digest_of(found.manifest)),
        *(blob_path(file.digest) for file in parsed.files),
        *(file.title for file in parsed.files if found.exported),
    }


def check_files(directory: Path, expected: set[str]) -> None:
    """Compare what is in the directory with what must be.

    Raises:
        LayoutError: names every file that is missing, unknown, or no regular file.
    """
    folders = {str(parent) for name in expected for parent in Path(name).parents}
    problems, found = [], set()
    for root, directories, files in os.walk(directory, followlinks=False, onerror=_raise):
        for name in [*directories, *files]:
            path = Path(root, name)
            relative = str(path.relative_to(directory))
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.add(relative)
            elif not stat.S_ISDIR(mode):
                problems.append(f"{relative} is no regular file")
            elif relative not in folders:
                problems.append(f"{relative} is an unknown folder")
    problems += [f"{name} is missing" for name in expected - found]
    problems += [f"{name} belongs to no layer" for name in found - expected]
    if problems:
        raise LayoutError("; ".join(sorted(problems)[:20]))


def check_titled_files(directory: Path, parsed: ArtifactManifest) -> int:
    """Compare each file under its title with its layer; return how many there are.

    Raises:
        LayoutError: names the first that differs.
    """
    for file in parsed.files:
        if digest_of(data := read_regular(directory, file.title)) != file.digest:
            raise LayoutError(
                f"{file.title}: its {len(data)} bytes are {digest_of(data)}; the layer of that title is {file.digest}"
            )
    return len(parsed.files)


def parse_manifest(manifest: bytes) -> ArtifactManifest:
    """Return the manifest.

    Raises:
        LayoutError: it is none of an artifact of Edgeloop.
    """
    try:
        return ArtifactManifest.model_validate_json(manifest)
    except ValidationError as error:
        raise LayoutError(f"not the manifest of an Edgeloop artifact: {error}") from error


def _raise(error: OSError) -> NoReturn:
    raise LayoutError(f"{error.filename}: {error.strerror}") from error
