"""The steps that run code of the repository, or TensorFlow: each in a process of its own, told by its environment."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError, require_supported
from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.inputs import conversion
from services.artifact_builder.inputs.quantised import NotQuantisedError, require_full_int8
from services.artifact_builder.inputs.sources import Source, SourceError, read_source
from services.artifact_builder.sandbox.engines import Engine, Program, Sandbox
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, SupervisorError
from services.artifact_builder.tools import Tools
from shared.releases.datasets import Dataset, read_dataset, write_dataset
from shared.releases.manifest import Manifest, Step
from shared.releases.model_formats import ModelFormat
from shared.releases.release import Conversion, Recipe

_CONVERTED: Final = (
    conversion.FLOAT32_FILE,
    conversion.INT8_FILE,
    conversion.PROBLEM_FILE,
    conversion.RESULT_FILE,
    conversion.SOURCE_FILE,
)
_INHERITED: Final = ("PATH", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_DISK_IS_FULL: Final = "No space left on device"
_READ_ONLY: Final = "Read-only file system"
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Site:
    """Where one build happens: the checkout, beside it what the steps write, and what the steps run in."""

    checkout: Path
    work: Path
    sandbox: Sandbox

    def folder(self, name: str) -> Path:
        """Return a folder of the work directory; made when it is missing."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class Room:
    """The folders of one step: it writes to its own three and reads the rest."""

    output: Path
    home: Path
    scratch: Path
    readable: tuple[Path, ...]

    @classmethod
    def of(cls, site: Site, name: str, *, readable: Sequence[Path] = ()) -> Self:
        """Return the room of the step that writes the folder `name`."""
        home, scratch = site.folder(f"private/{name}/home"), site.folder(f"private/{name}/scratch")
        return cls(site.folder(name), home, scratch, tuple(readable))

    def program(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], limits: Limits) -> Program:
        """Return `command` as what a sandbox runs."""
        own = (self.output, self.home, self.scratch)
        return Program(tuple(command), cwd, environment, limits, readable=self.readable, writable=own)

    def step(self, step: Step, site: Site, tools: Tools, environment: Mapping[str, str]) -> Program:
        """Return a step of the manifest as what a sandbox runs."""
        first, *arguments = step.command
        command = [sys.executable if first in ("python", "python3") else first, *arguments]
        return self.program(command, site.checkout, environment, tools.limits(step.timeout_s))


@dataclass(frozen=True, slots=True)
class Prepared:
    """The datasets that a build uses. `files` are their bytes: equal data, equal bytes.

    The keys are `train`, `test`, and for each of `data.more` its path.
    """

    train: Dataset
    test: Dataset
    production: tuple[Dataset, ...]
    files: Mapping[str, bytes]

    @property
    def reference(self) -> tuple[Dataset, ...]:
        """What the fleet senses: the production data once there is any, the training data before."""
        return self.production or (self.train,)


@dataclass(frozen=True, slots=True)
class Converted:
    """A model's files. One that was int8 from the start has no float32, and nothing converted it."""

    source: Source
    float32: bytes | None
    int8: bytes
    recipe: Recipe | None
    conversion: Conversion


async def prepare(manifest: Manifest, site: Site, production: Sequence[bytes], tools: Tools) -> Prepared:
    """Run the step that writes the datasets, if there is one, and read them.

    Raises:
        AuthorError: the step failed, or did not write what the manifest says; or the model cannot be retrained.
    """
    extra = {}
    datasets = tuple(
        _of_shape(read_dataset(data, name=f"production[{n}]"), manifest) for n, data in enumerate(production)
    )
    if production:
        extra["EDGELOOP_PRODUCTION_DIR"] = _production_folder(manifest, site, production)
    if manifest.data.prepare is None:
        prepared = await asyncio.to_thread(_read_prepared, manifest, site.checkout, datasets)
        paths = {"train": manifest.data.train.path, "test": manifest.data.test.path}
        for name, data in prepared.files.items():
            _put(site.folder("data"), paths.get(name, name), data)
        return prepared
    room = Room.of(site, "data", readable=[site.checkout, *([site.folder("production")] if production else [])])
    output = room.output
    environment = step_environment(room, tools, {**_seed(manifest), "EDGELOOP_OUTPUT_DIR": output, **extra})
    program = room.step(manifest.data.prepare, site, tools, environment)
    await _run_step("data.prepare", manifest.data.prepare, site, program)
    return await asyncio.to_thread(_read_prepared, manifest, output, datasets)


def _production_folder(manifest: Manifest, site: Site, production: Sequence[bytes]) -> Path:
    if manifest.model.train is None:
        raise AuthorError(
            f"model.file ({manifest.model.file}) is a finished model: production data cannot retrain it. Next: train "
            "it on them yourself and push the new file, or give edgeloop.yaml a model.train step"
        )
    folder = site.folder("production")
    for index, data in enumerate(production):
        (folder / f"{index:04}.npz").write_bytes(data)
    return folder


def _put(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _read_prepared(manifest: Manifest, output: Path, production: tuple[Dataset, ...]) -> Prepared:
    data, by_step = manifest.data, manifest.data.prepare is not None

    def read(path: str, key: str) -> Dataset:
        file = _written(output, path, key, by_step=by_step)
        return _of_shape(read_dataset(file.read_bytes(), name=path), manifest, path)

    train, test = read(data.train.path, "data.train.path"), read(data.test.path, "data.test.path")
    more = {file.path: read(file.path, f"data.more[{index}].path") for index, file in enumerate(data.more)}
    files = {name: write_dataset(dataset) for name, dataset in {"train": train, "test": test, **more}.items()}
    return Prepared(train, test, production, files)


def _of_shape(dataset: Dataset, manifest: Manifest, name: str = "production data") -> Dataset:
    if not len(dataset):
        raise AuthorError(f"{name} has no rows. Next: let the prepare step write some")
    if dataset.x.shape[1:] != manifest.input.shape:
        raise AuthorError(
            f"{name} has windows of {dataset.x.shape[1:]}; allowed are {manifest.input.shape}, input.shape in "
            "edgeloop.yaml. Next: correct the one that is wrong"
        )
    return dataset


async def train(manifest: Manifest, site: Site, tools: Tools) -> Source:
    """Run the step that trains, if there is one, and return the model.

    Raises:
        AuthorError: the step failed, or there is no such model.
    """
    if manifest.model.train is None:
        return _source(site.checkout, manifest.model.file or manifest.model.path, "model.file", by_step=False)
    readable = [site.checkout, site.folder("data")]
    folders = {"EDGELOOP_DATA_DIR": site.folder("data")}
    if manifest.data.prepare is None and (site.work / "production").is_dir():
        folders["EDGELOOP_PRODUCTION_DIR"] = site.folder("production")  # nobody else merges them
        readable.append(site.folder("production"))
    room = Room.of(site, "model", readable=readable)
    environment = step_environment(room, tools, {**_seed(manifest), "EDGELOOP_OUTPUT_DIR": room.output, **folders})
    program = room.step(manifest.model.train, site, tools, environment)
    await _run_step("model.train", manifest.model.train, site, program)
    return _source(room.output, manifest.model.path, "model.path", by_step=True)


def _source(folder: Path, name: str, key: str, *, by_step: bool) -> Source:
    try:
        return read_source(_written(folder, name, key, by_step=by_step), name)
    except SourceError as error:
        raise AuthorError(str(error)) from error


async def convert(source: Source, prepared: Prepared, manifest: Manifest, site: Site, tools: Tools) -> Converted:
    """Convert the model to float32 and int8 .tflite; one that is int8 already is only checked.

    Raises:
        AuthorError: the model cannot be converted; the reason names the layer or shape.
    """
    if source.format is ModelFormat.TFLITE:
        try:
            require_full_int8(source.data, window=manifest.input.shape, classes=len(manifest.labels))
        except NotQuantisedError as error:
            raise AuthorError(str(error)) from error
        return Converted(source, None, source.data, None, Conversion())
    room = Room.of(site, "converted")
    output = room.output
    model_file = f"model.{source.format}"
    (output / model_file).write_bytes(source.data)
    (output / "train.npz").write_bytes(prepared.files["train"])
    request = conversion.Request(
        model_file, source.format, "train.npz", seed=manifest.model.seed, classes=len(manifest.labels)
    )
    request.write(output)
    command = [sys.executable, "-m", conversion.__name__, conversion.REQUEST_FILE]
    environment = step_environment(room, tools, {"PYTHONPATH": str(_ROOT)})
    limits = tools.limits(tools.conversion_timeout_s)
    ended = await _run(site.sandbox, room.program(command, output, environment, limits))
    found = {name: path.read_bytes() for name in _CONVERTED if (path := _inside(output, name)) and path.is_file()}
    if not ended.succeeded:
        if problem := found.get(conversion.PROBLEM_FILE):
            raise AuthorError(problem.decode(errors="replace"), ended.last_lines)
        said = _unsupported(found.get(conversion.FLOAT32_FILE, b"")) or f"the conversion {_how(ended, limits)}"
        raise AuthorError(said, ended.last_lines)
    return _converted(source, found)


def _converted(source: Source, found: Mapping[str, bytes]) -> Converted:
    """Return the result; the conversion met a file of the repository's, so that it may be anything."""
    try:
        result = json.loads(found[conversion.RESULT_FILE])
        return Converted(
            source=Source(source.format, found.get(conversion.SOURCE_FILE, source.data)),
            float32=found[conversion.FLOAT32_FILE],
            int8=found[conversion.INT8_FILE],
            recipe=Recipe.model_validate(result["recipe"]),
            conversion=Conversion.model_validate(result["conversion"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AuthorError(
            f"the conversion of the model left no usable result ({error}). Next: convert it on your own machine"
        ) from error


def _unsupported(float32: bytes) -> str:
    """Return which operator TensorFlow Lite may have crashed over."""
    try:
        require_supported(float32)
    except MalformedModelError:
        return ""
    except UnsupportedModelError as error:
        return str(error)
    return ""


def step_environment(room: Room, tools: Tools, extra: Mapping[str, str | Path]) -> dict[str, str]:
    """Return all that a step gets to see: none of the builder's own settings, keys or home."""
    names = (*_INHERITED, *tools.step_variables)
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        **conversion.TENSORFLOW_ENVIRONMENT,
        "HOME": str(room.home),
        "TMPDIR": str(room.scratch),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **{name: str(value) for name, value in extra.items()},
    }


def _seed(manifest: Manifest) -> dict[str, str]:
    return {"EDGELOOP_SEED": str(manifest.model.seed)}


async def _run_step(key: str, step: Step, site: Site, program: Program) -> None:
    ended = await _run(site.sandbox, program)
    if not ended.succeeded:
        raise AuthorError(f"{key} ({' '.join(step.command)}) {_how(ended, program.limits, key)}", ended.last_lines)


async def _run(sandbox: Sandbox, program: Program) -> Ended:
    """Run a program; what is not its fault is raised as the machine's."""
    name = program.command[0]
    try:
        ended = await sandbox.run(program)
    except SupervisorError as error:
        raise InfrastructureError(str(error)) from error
    says_full = not ended.succeeded and any(_DISK_IS_FULL in line for line in ended.last_lines)
    # A sandbox has small disks of its own, and the real one is watched.
    if ended.ending is Ending.NO_ROOM or (says_full and sandbox.engine is Engine.PROCESS):
        raise InfrastructureError(f"{program.cwd}: {_DISK_IS_FULL.lower()}, says {name}. Next: free some")
    if ended.ending is Ending.STOPPED:
        raise InfrastructureError(f"{name} was stopped from outside")
    return ended


_REPOSITORY: Final = ("the repository has", "commit it")
_STEP: Final = ("the step wrote", "write it into $EDGELOOP_OUTPUT_DIR")


def _written(output: Path, name: str, key: str, *, by_step: bool) -> Path:
    """Return the file that a step was to write, or the folder when `name` ends in a slash; a link out of it is none."""
    path = _inside(output, name)
    if path is None or not (path.is_dir() if name.endswith("/") else path.is_file()):
        who, mend = _STEP if by_step else _REPOSITORY
        there = ", ".join(sorted(str(file.relative_to(output)) for file in output.rglob("*") if file.is_file())[:10])
        raise AuthorError(
            f"{key}: {who} no {name}, but {there or 'nothing'}. Next: {mend}, or correct the path in edgeloop.yaml"
        )
    return path


def _inside(folder: Path, name: str) -> Path | None:
    """Return the path of what is really in `folder`: whoever wrote it may have left a link to a secret of ours."""
    path = (folder / name).resolve()
    return path if path.exists() and path.is_relative_to(folder.resolve()) else None


def _how(ended: Ended, limits: Limits, key: str = "") -> str:
    """Return how a program failed, and what to do."""
    match ended.ending:
        case Ending.TIMEOUT:
            raise_it = f", or raise {key}.timeout_s" if key else ""
            said = f"did not end within {limits.wall_s:g} s and was ended. Next: make it faster{raise_it}"
        case Ending.MEMORY:
            used = ended.peak_rss_bytes / 2**20
            said = f"used {used:,.0f} MiB of memory, more than it may, and was ended. Next: use smaller batches"
        case Ending.PROCESSES:
            said = f"started more than {limits.processes} processes, and was ended. Next: use fewer workers"
        case Ending.DISK:
            allowed = f"{limits.disk_bytes / 2**20:,.0f} MiB in {limits.disk_files:,} files"
            said = (
                f"left {ended.disk_bytes / 2**20:,.0f} MiB on the disk, and was ended; allowed are {allowed}. "
                "Next: keep less, or let the operator raise EDGELOOP_STEP_DISK_BYTES or EDGELOOP_STEP_DISK_FILES"
            )
        case Ending.NOT_STARTED:
            said = f"could not be started: {ended.error}. Next: correct the command in edgeloop.yaml"
        case _:
            said = _how_it_exited(ended)
    return said


def _how_it_exited(ended: Ended) -> str:
    code = ended.exit_code or 0
    if code == -signal.SIGXCPU:
        return "used all the processor time that it may, and was ended. Next: train less, or start fewer threads"
    if code < 0:
        return f"was ended by signal {-code}. Next: run it on your own machine"
    if any(_READ_ONLY in line for line in ended.last_lines):
        return (
            f"ended with exit code {code}: the checkout and the system are read-only. "
            "Next: write into $EDGELOOP_OUTPUT_DIR, $TMPDIR or $HOME"
        )
    if any(_DISK_IS_FULL in line for line in ended.last_lines):
        return f"ended with exit code {code}: /tmp and /dev/shm are small in a sandbox. Next: write into $TMPDIR"
    return f"ended with exit code {code}. Next: mend what its last lines say"
