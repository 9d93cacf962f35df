"""The steps that are the repository's own programs. Each runs in a tree of its own and is told by its environment."""

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.artifact_builder.caching.keys import NOT_IN_KEY, Files
from services.artifact_builder.errors import AuthorError
from services.artifact_builder.harmless import NAMED, bad_name, shown
from services.artifact_builder.inputs.sources import Source, SourceError, read_source, unpack_saved_model
from services.artifact_builder.left_behind import files_below
from services.artifact_builder.programs import Room, how_it_ended, inside, put
from services.artifact_builder.sandbox.engines import Engine
from services.artifact_builder.trees import Tree
from shared.releases.datasets import Dataset, read_dataset, write_dataset

_LEFT: Final = "left/"
"""Before the paths of what a preparation left: training sees exactly these bytes."""
_DATASETS: Final = "datasets/"
"""Before the names of datasets in canonical form: equal data, equal bytes."""
MAXIMUM_LEFT_FILES: Final = 20_000
"""Each is an object of its own in the cache."""
MAXIMUM_LEFT_BYTES: Final = 2 * 2**30
"""Of all files that a preparation leaves: they are in memory at once."""


@dataclass(frozen=True, slots=True)
class Script:
    """A step of the manifest. A time limit changes no result."""

    key: str
    """Its place in the manifest, for example ``model.train``."""
    command: tuple[str, ...]
    tree: Tree
    seed: int
    timeout_s: float = field(metadata=NOT_IN_KEY)

    @property
    def argv(self) -> list[str]:
        """The command, with the builder's interpreter for ``python``."""
        first, *rest = self.command
        return [sys.executable if first in ("python", "python3") else first, *rest]


@dataclass(frozen=True, slots=True)
class DataInputs:
    """All that the datasets depend on, beside code, packages and the step's variables."""

    program: Script | None
    """None: the datasets are files of the repository."""
    executable: str
    """See `digest_of_executable`."""
    engine: Engine
    """What the step ran in: one that could read more of the machine may have written more."""
    tree: Tree
    """The files that the datasets are read from without a program."""
    files: tuple[tuple[str, str, str], ...]
    """Of each dataset the name, its key in the manifest, and its path."""
    shape: tuple[int, ...]
    production: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """All that the model depends on."""

    program: Script | None
    """None: the model is a file of the repository."""
    executable: str
    engine: Engine
    tree: Tree
    path: str
    data: Files
    """What the preparation left, by path."""
    production: tuple[bytes, ...]
    """Only where nothing prepares: nobody else merges them."""


@dataclass(frozen=True, slots=True)
class TestInputs:
    """All that the verdict of the repository's tests depends on."""

    __test__ = False  # nothing for pytest to collect

    program: Script
    executable: str
    engine: Engine
    path: str
    model: Source
    data: Files


def digest_of_executable(command: tuple[str, ...]) -> str:
    """Return the digest of the program that the PATH has for a command; Python's is the packages', and told apart."""
    found = shutil.which(command[0])
    if command[0] in ("python", "python3") or found is None:
        return ""
    with open(found, "rb") as file:  # noqa: PTH123 - what `which` gives is text
        return hashlib.file_digest(file, "sha256").hexdigest()


async def prepare(inputs: DataInputs, room: Room) -> Files:
    """Run the step that writes the datasets, and return them twice: as written for training, and canonical.

    Raises:
        AuthorError: the step failed, or did not write what the manifest says.
    """
    if inputs.program is None:
        inputs.tree.copy_to(room.place / "tree")
        return _read(inputs, room.place / "tree")
    await _run_step(inputs.program, room, _production(inputs.production, room))
    return _read(inputs, room.output)


def datasets(data: Files) -> dict[str, bytes]:
    """Return the datasets in canonical form: `train`, `test`, and the others by path."""
    return _below(_DATASETS, data)


def left_by_preparation(data: Files) -> dict[str, bytes]:
    """Return what the preparation left, by path."""
    return _below(_LEFT, data)


def _below(prefix: str, files: Files) -> dict[str, bytes]:
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


def _production(production: tuple[bytes, ...], room: Room) -> dict[str, Path]:
    """Write the production data, if there is any, and return the variable that tells of it."""
    if not production:
        return {}
    files = {f"{index:04}.npz": data for index, data in enumerate(production)}
    return {"EDGELOOP_PRODUCTION_DIR": put(files, room.place / "production")}


def _read(inputs: DataInputs, output: Path) -> Files:
    by_step = inputs.program is not None
    files = {f"{_LEFT}{path}": content for path, content in _left_in(output)}
    for name, key, path in inputs.files:
        content = _written(output, path, key, by_step=by_step).read_bytes()
        dataset = of_shape(read_dataset(content, name=path), inputs.shape, path)
        files[f"{_DATASETS}{name}"] = write_dataset(dataset)
        files[f"{_LEFT}{path}"] = content
    return files


def of_shape(dataset: Dataset, shape: tuple[int, ...], name: str) -> Dataset:
    """Return `dataset`.

    Raises:
        AuthorError: it has no rows, or rows of another shape.
    """
    if not len(dataset):
        raise AuthorError(f"{name} has no rows. Next: let the prepare step write some")
    if dataset.x.shape[1:] != shape:
        raise AuthorError(
            f"{name} has windows of {dataset.x.shape[1:]}; allowed are {shape}, input.shape in "
            "edgeloop.yaml. Next: correct the one that is wrong"
        )
    return dataset


async def train(inputs: TrainInputs, room: Room) -> Source:
    """Run the step that trains, if there is one, and return the model.

    Raises:
        AuthorError: the step failed, or there is no such model.
    """
    if inputs.program is None:
        inputs.tree.copy_to(room.place / "tree")
        return _source(room.place / "tree", inputs.path, "model.file", by_step=False)
    data = put(inputs.data, room.place / "data")
    await _run_step(inputs.program, room, {"EDGELOOP_DATA_DIR": data, **_production(inputs.production, room)})
    return _source(room.output, inputs.path, "model.path", by_step=True)


def _source(folder: Path, name: str, key: str, *, by_step: bool) -> Source:
    try:
        return read_source(_written(folder, name, key, by_step=by_step), name)
    except SourceError as error:
        raise AuthorError(str(error)) from error


async def run_tests(inputs: TestInputs, room: Room) -> Files:
    """Run the repository's own tests on the model. They give nothing but their verdict.

    Raises:
        AuthorError: they failed; with their last lines.
    """
    model = room.place / "model"
    if inputs.path.endswith("/"):
        unpack_saved_model(inputs.model.data, model / inputs.path)
    else:
        put({inputs.path: inputs.model.data}, model)
    data = put(inputs.data, room.place / "data")
    await _run_step(inputs.program, room, {"EDGELOOP_DATA_DIR": data, "EDGELOOP_MODEL_DIR": model})
    return {}


async def _run_step(script: Script, room: Room, folders: Mapping[str, Path]) -> None:
    """Run a step in a fresh copy of its tree; it reads `folders`, by the variables that tell of them."""
    tree = room.place / "tree"
    script.tree.copy_to(tree)
    limits = room.host.limits(script.timeout_s)
    told: dict[str, str | Path] = {"EDGELOOP_SEED": str(script.seed), "EDGELOOP_OUTPUT_DIR": room.output, **folders}
    ended = await room.run(script.argv, limits, cwd=tree, told=told, readable=[tree, *folders.values()])
    if not ended.succeeded:
        shown = " ".join(script.command)
        raise AuthorError(f"{script.key} ({shown}) {how_it_ended(ended, limits, script.key)}", ended.last_lines)


def _left_in(output: Path) -> Iterator[tuple[str, bytes]]:
    files = {path.relative_to(output).as_posix(): path for path in sorted(files_below(output))}
    for name in files:
        if reason := bad_name(name):
            raise AuthorError(f"data.prepare left {shown(name)}: the path {reason}. Next: give it another name")
    if len(files) > MAXIMUM_LEFT_FILES:
        raise AuthorError(
            f"data.prepare left {len(files):,} files; allowed are {MAXIMUM_LEFT_FILES:,}, which are kept for training "
            "and tests. Next: pack them into archives"
        )
    sizes = {name: path.stat().st_size for name, path in files.items()}  # with holes a file takes less on the disk
    if sum(sizes.values()) > MAXIMUM_LEFT_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise AuthorError(
            f"data.prepare left {sum(sizes.values()):,} bytes, {sizes[largest]:,} of them in {largest}; allowed are "
            f"{MAXIMUM_LEFT_BYTES:,}, which are kept for training and tests. Next: keep less in $EDGELOOP_OUTPUT_DIR; "
            "what only the step itself needs belongs into $TMPDIR"
        )
    return ((name, path.read_bytes()) for name, path in files.items())


_REPOSITORY: Final = ("the repository has", "commit it")
_STEP: Final = ("the step wrote", "write it into $EDGELOOP_OUTPUT_DIR")


def _written(output: Path, name: str, key: str, *, by_step: bool) -> Path:
    """Return the file that a step was to write, or the folder when `name` ends in a slash; a link out of it is none."""
    path = inside(output, name)
    if path is None or not (path.is_dir() if name.endswith("/") else path.is_file()):
        who, mend = _STEP if by_step else _REPOSITORY
        there = ", ".join(sorted(shown(file.relative_to(output).as_posix()) for file in files_below(output))[:NAMED])
        raise AuthorError(
            f"{key}: {who} no {name}, but {there or 'nothing'}. Next: {mend}, or correct the path in edgeloop.yaml"
        )
    return path
