"""The steps that run code of the repository, or TensorFlow: each in a process of its own, told by its environment."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError, require_supported
from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.inputs import conversion
from services.artifact_builder.inputs.quantised import NotQuantisedError, require_full_int8
from services.artifact_builder.inputs.sources import Source, SourceError, read_source
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, SupervisorError, run_limited
from services.artifact_builder.tools import Tools
from shared.releases.datasets import Dataset, read_dataset, write_dataset
from shared.releases.manifest import Manifest, Step
from shared.releases.model_formats import ModelFormat
from shared.releases.release import Conversion, Recipe

_INHERITED: Final = ("PATH", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_DISK_IS_FULL: Final = "No space left on device"
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Site:
    """Where one build happens: the checkout, and beside it what the steps write."""

    checkout: Path
    work: Path

    def folder(self, name: str) -> Path:
        """Return a folder of the work directory; made when it is missing."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path


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
    output = site.folder("data")
    environment = step_environment(site, tools, {**_seed(manifest), "EDGELOOP_OUTPUT_DIR": output, **extra})
    await _run_step("data.prepare", manifest.data.prepare, site, tools, environment)
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
    output = site.folder("model")
    folders = {"EDGELOOP_OUTPUT_DIR": output, "EDGELOOP_DATA_DIR": site.folder("data")}
    if manifest.data.prepare is None and (site.work / "production").is_dir():
        folders["EDGELOOP_PRODUCTION_DIR"] = site.folder("production")  # nobody else merges them
    environment = step_environment(site, tools, {**_seed(manifest), **folders})
    await _run_step("model.train", manifest.model.train, site, tools, environment)
    return _source(output, manifest.model.path, "model.path", by_step=True)


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
    output = site.folder("converted")
    model_file = f"model.{source.format}"
    (output / model_file).write_bytes(source.data)
    (output / "train.npz").write_bytes(prepared.files["train"])
    request = conversion.Request(
        model_file, source.format, "train.npz", seed=manifest.model.seed, classes=len(manifest.labels)
    )
    request.write(output)
    command = [sys.executable, "-m", conversion.__name__, conversion.REQUEST_FILE]
    environment = step_environment(site, tools, {"PYTHONPATH": str(_ROOT)})
    limits = tools.limits(tools.conversion_timeout_s)
    ended = await _run(command, output, environment, limits)
    if not ended.succeeded:
        problem = output / conversion.PROBLEM_FILE
        if problem.is_file():
            raise AuthorError(problem.read_text("utf-8"), ended.last_lines)
        said = _unsupported(output / conversion.FLOAT32_FILE) or f"the conversion {_how(ended, limits.wall_s)}"
        raise AuthorError(said, ended.last_lines)
    return _converted(source, output)


def _converted(source: Source, output: Path) -> Converted:
    canonical = output / conversion.SOURCE_FILE
    result = json.loads((output / conversion.RESULT_FILE).read_bytes())
    return Converted(
        source=Source(source.format, canonical.read_bytes()) if canonical.is_file() else source,
        float32=(output / conversion.FLOAT32_FILE).read_bytes(),
        int8=(output / conversion.INT8_FILE).read_bytes(),
        recipe=Recipe.model_validate(result["recipe"]),
        conversion=Conversion.model_validate(result["conversion"]),
    )


def _unsupported(float32: Path) -> str:
    """Return which operator TensorFlow Lite may have crashed over."""
    try:
        require_supported(float32.read_bytes())
    except (OSError, MalformedModelError):
        return ""
    except UnsupportedModelError as error:
        return str(error)
    return ""


def step_environment(site: Site, tools: Tools, extra: Mapping[str, str | Path]) -> dict[str, str]:
    """Return all that a step gets to see: none of the builder's own settings, keys or home."""
    names = (*_INHERITED, *tools.step_variables)
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        **conversion.TENSORFLOW_ENVIRONMENT,
        "HOME": str(site.folder("home")),
        "TMPDIR": str(site.folder("tmp")),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **{name: str(value) for name, value in extra.items()},
    }


def _seed(manifest: Manifest) -> dict[str, str]:
    return {"EDGELOOP_SEED": str(manifest.model.seed)}


async def _run_step(key: str, step: Step, site: Site, tools: Tools, environment: Mapping[str, str]) -> None:
    command = [sys.executable if part in ("python", "python3") else part for part in step.command[:1]]
    limits = tools.limits(step.timeout_s)
    ended = await _run([*command, *step.command[1:]], site.checkout, environment, limits)
    if not ended.succeeded:
        raise AuthorError(f"{key} ({' '.join(step.command)}) {_how(ended, limits.wall_s, key)}", ended.last_lines)


async def _run(command: Sequence[str], cwd: Path, environment: Mapping[str, str], limits: Limits) -> Ended:
    """Run a program; what is not its fault is raised as the machine's."""
    try:
        ended = await run_limited(command, cwd=cwd, environment=environment, limits=limits)
    except SupervisorError as error:
        raise InfrastructureError(str(error)) from error
    if not ended.succeeded and any(_DISK_IS_FULL in line for line in ended.last_lines):
        raise InfrastructureError(f"{cwd}: {_DISK_IS_FULL.lower()}, says {command[0]}. Next: free some")
    if ended.ending is Ending.STOPPED:
        raise InfrastructureError(f"{command[0]} was stopped from outside")
    return ended


_REPOSITORY: Final = ("the repository has", "commit it")
_STEP: Final = ("the step wrote", "write it into $EDGELOOP_OUTPUT_DIR")


def _written(output: Path, name: str, key: str, *, by_step: bool) -> Path:
    """Return the file that a step was to write, or the folder when `name` ends in a slash; a link out of it is none."""
    path = (output / name).resolve()
    is_there = path.is_dir() if name.endswith("/") else path.is_file()
    if not is_there or not path.is_relative_to(output.resolve()):
        who, mend = _STEP if by_step else _REPOSITORY
        there = ", ".join(sorted(str(file.relative_to(output)) for file in output.rglob("*") if file.is_file())[:10])
        raise AuthorError(
            f"{key}: {who} no {name}, but {there or 'nothing'}. Next: {mend}, or correct the path in edgeloop.yaml"
        )
    return path


def _how(ended: Ended, wall_s: float, key: str = "") -> str:
    """Return how a program failed, and what to do."""
    match ended.ending:
        case Ending.TIMEOUT:
            raise_it = f", or raise {key}.timeout_s" if key else ""
            return f"did not end within {wall_s:g} s and was ended. Next: make it faster{raise_it}"
        case Ending.MEMORY:
            used = ended.peak_rss_bytes / 2**20
            return f"used {used:,.0f} MiB of memory, more than it may, and was ended. Next: use smaller batches"
        case Ending.PROCESSES:
            return "started more processes than it may, and was ended. Next: use fewer workers"
        case Ending.NOT_STARTED:
            return f"could not be started: {ended.error}. Next: correct the command in edgeloop.yaml"
        case _ if ended.exit_code is not None and ended.exit_code < 0:
            return f"was ended by signal {-ended.exit_code}. Next: run it on your own machine"
        case _:
            return f"ended with exit code {ended.exit_code}. Next: mend what its last lines say"
