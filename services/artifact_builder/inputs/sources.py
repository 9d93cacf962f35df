"""A repository's model as bytes: found, measured, and the same bytes every time."""

import io
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from services.artifact_builder.harmless import bad_name, shown
from services.artifact_builder.inputs.canonical import canonical_keras, zipped
from services.artifact_builder.left_behind import below
from shared.releases.model_formats import ModelFormat, model_format

MAXIMUM_MODEL_BYTES: Final = 256 * 2**20
"""Far above any model that fits a microcontroller: 2,000 times the flash of the largest board of the catalogue."""
MAXIMUM_FILES: Final = 1000

_GRAPH: Final = "saved_model.pb"
_KEPT: Final = (_GRAPH, "variables/", "assets/")
"""What a SavedModel is loaded from; `fingerprint.pb` beside it is another random number each time."""


class SourceError(ValueError):
    """The file or folder is not a model of the format that its name says."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model as its repository gave it. A SavedModel is a .zip of its folder."""

    format: ModelFormat
    data: bytes


def read_source(path: Path, name: str) -> Source:
    """Return the model at `path`, a file, or a folder when it is a SavedModel.

    Raises:
        SourceError: it is too large, or not what the ending of `name` says. What is inside is judged later.
    """
    found = model_format(name)
    if found is None:
        raise SourceError(f"{name} has no ending of a model")
    if path.is_dir():
        return Source(found, _packed(_files_of(path, name), name))
    size = path.stat().st_size
    if size > MAXIMUM_MODEL_BYTES:
        raise _too_large(name, size)
    data = path.read_bytes()
    try:
        return Source(found, _CANONICAL[found](data, name))
    except SourceError:
        raise
    except ValueError as error:
        raise SourceError(f"{name}: {error}") from error


def unpack_saved_model(data: bytes, folder: Path) -> None:
    """Write the files of a packed SavedModel, as `read_source` returns it, below `folder`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def _files_of(folder: Path, name: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    for path in sorted(below(folder)):
        relative = path.relative_to(folder).as_posix()
        if reason := bad_name(relative):
            raise SourceError(f"{name}{shown(relative)}: the path {reason}. Next: give it another name")
        if path.is_symlink():
            raise SourceError(f"{name}{relative} is a symbolic link; allowed are files. Next: copy it there instead")
        if path.is_file() and relative.startswith(_KEPT):
            size += path.stat().st_size
            if size > MAXIMUM_MODEL_BYTES or len(files) == MAXIMUM_FILES:
                raise _too_large(name, size)
            files[relative] = path.read_bytes()
    return files


def _unzipped(data: bytes, name: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members)  # what zipfile reads at most, whatever is packed
            if size > MAXIMUM_MODEL_BYTES or len(members) > MAXIMUM_FILES:
                raise _too_large(name, size)
            files = {_safe(member, name): archive.read(member) for member in members}
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{name}: not a readable .zip: {error}. Next: pack the SavedModel's folder again") from error
    top = next((path.removesuffix(_GRAPH) for path in files if PurePosixPath(path).name == _GRAPH), "")
    inner = {path.removeprefix(top): content for path, content in files.items() if path.startswith(top)}
    return _packed({path: content for path, content in inner.items() if path.startswith(_KEPT)}, name)


def _safe(member: zipfile.ZipInfo, name: str) -> str:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
        raise SourceError(
            f"{name} has the member {member.filename!r}; allowed are files inside the archive. Next: pack it again"
        )
    return str(path)


def _packed(files: Mapping[str, bytes], name: str) -> bytes:
    if _GRAPH not in files:
        there = ", ".join(sorted(files)[:10]) or "nothing of one"
        raise SourceError(
            f"{name}: a SavedModel has {_GRAPH}, here is {there}. Next: write it with model.export('folder')"
        )
    return zipped(files)


def _too_large(name: str, size: int) -> SourceError:
    return SourceError(
        f"{name} has {size:,} bytes in all; allowed are {MAXIMUM_MODEL_BYTES:,} in at most {MAXIMUM_FILES} files. "
        "Next: export the model alone, without checkpoints or data"
    )


def _keras(data: bytes, name: str) -> bytes:  # noqa: ARG001 - one signature for all formats
    return canonical_keras(data)


def _unchanged(data: bytes, name: str) -> bytes:
    if not data:
        raise SourceError(f"{name} is empty. Next: export the model again")
    if data.startswith(b"version https://git-lfs"):
        raise SourceError(f"{name} is a pointer of Git LFS, not the model. Next: commit the file itself")
    return data


_CANONICAL: Final = {
    ModelFormat.KERAS: _keras,
    ModelFormat.SAVED_MODEL: _unzipped,
    ModelFormat.ONNX: _unchanged,
    ModelFormat.TFLITE: _unchanged,
}
