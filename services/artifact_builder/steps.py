"""The steps that run code of the repository, or TensorFlow: each in a process of its own, told by its environment."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError, require_supported
from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.inputs import conversion
from services.artifact_builder.inputs.canonical import canonical_keras
from services.artifact_builder.sandbox.processes import Ended, Ending, Limits, SupervisorError, run_limited
from services.artifact_builder.tools import Tools
from shared.releases.datasets import Dataset, read_dataset, write_dataset
from shared.releases.manifest import Manifest, Step
from shared.releases.release import Recipe

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
    """The datasets that a build uses. `files` are their bytes: equal data, equal bytes."""

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
    """A model's files."""

    keras: bytes
    float32: bytes
    int8: bytes
    recipe: Recipe


async def prepare(manifest: Manifest, site: Site, production: Sequence[bytes], tools: Tools) -> Prepared:
    """Run the step that writes the datasets, and read them.

    Raises:
        AuthorError: the step failed, or did not write what the manifest says.
    """
    extra = {}
    datasets = tuple(
        _of_shape(read_dataset(data, name=f"production[{n}]"), manifest) for n, data in enumerate(production)
    )
    if production:
        folder = site.folder("production")
        for index, data in enumerate(production):
            (folder / f"{index:04}.npz").write_bytes(data)
        extra["EDGELOOP_PRODUCTION_DIR"] = str(folder)
    if manifest.data.prepare is None:
        return await asyncio.to_thread(_read_prepared, manifest, site.checkout, datasets)
    output = site.folder("data")
    environment = step_environment(site, tools, {**_seed(manifest), "EDGELOOP_OUTPUT_DIR": output, **extra})
    await _run_step("data.prepare", manifest.data.prepare, site, tools, environment)
    return await asyncio.to_thread(_read_prepared, manifest, output, datasets)


def _read_prepared(manifest: Manifest, output: Path, production: tuple[Dataset, ...]) -> Prepared:
    found = {}
    for name, file in (("train", manifest.data.train), ("test", manifest.data.test)):
        path = _written(output, file.path, f"data.{name}.path", by_step=manifest.data.prepare is not None)
        found[name] = _of_shape(read_dataset(path.read_bytes(), name=file.path), manifest, file.path)
    files = {name: write_dataset(dataset) for name, dataset in found.items()}
    return Prepared(found["train"], found["test"], production, files)


def _of_shape(dataset: Dataset, manifest: Manifest, name: str = "production data") -> Dataset:
    if not len(dataset):
        raise AuthorError(f"{name} has no rows. Next: let the prepare step write some")
    if dataset.x.shape[1:] != manifest.input.shape:
        raise AuthorError(
            f"{name} has windows of {dataset.x.shape[1:]}; allowed are {manifest.input.shape}, input.shape in "
            "edgeloop.yaml. Next: correct the one that is wrong"
        )
    return dataset


async def train(manifest: Manifest, site: Site, tools: Tools) -> bytes:
    """Run the step that trains, and return the Keras model, canonical.

    Raises:
        AuthorError: the step failed, or wrote no model.
    """
    if manifest.model.train is None:
        return _canonical(site.checkout, manifest.model.file or manifest.model.path, "model.file", by_step=False)
    output = site.folder("model")
    folders = {"EDGELOOP_OUTPUT_DIR": output, "EDGELOOP_DATA_DIR": site.folder("data")}
    environment = step_environment(site, tools, {**_seed(manifest), **folders})
    await _run_step("model.train", manifest.model.train, site, tools, environment)
    return _canonical(output, manifest.model.path, "model.path", by_step=True)


def _canonical(folder: Path, name: str, key: str, *, by_step: bool) -> bytes:
    try:
        return canonical_keras(_written(folder, name, key, by_step=by_step).read_bytes())
    except ValueError as error:
        raise AuthorError(f"{name}: {error}") from error


async def convert(keras: bytes, prepared: Prepared, manifest: Manifest, site: Site, tools: Tools) -> Converted:
    """Convert the Keras model to float32 and int8 .tflite.

    Raises:
        AuthorError: the model cannot be converted; the reason names the layer or shape.
    """
    output = site.folder("converted")
    (output / "model.keras").write_bytes(keras)
    (output / "train.npz").write_bytes(prepared.files["train"])
    seed, classes = str(manifest.model.seed), str(len(manifest.labels))
    command = [sys.executable, "-m", conversion.__name__, "model.keras", "train.npz", ".", seed, classes]
    environment = step_environment(site, tools, {"PYTHONPATH": str(_ROOT)})
    limits = tools.limits(tools.conversion_timeout_s)
    ended = await _run(command, output, environment, limits)
    if not ended.succeeded:
        problem = output / conversion.PROBLEM_FILE
        said = problem.read_text("utf-8") if problem.is_file() else f"the conversion {_how(ended, limits.wall_s)}"
        raise AuthorError(_unsupported(output / conversion.FLOAT32_FILE) or said, ended.last_lines)
    return Converted(
        keras=keras,
        float32=(output / conversion.FLOAT32_FILE).read_bytes(),
        int8=(output / conversion.INT8_FILE).read_bytes(),
        recipe=Recipe.model_validate_json((output / conversion.RECIPE_FILE).read_bytes()),
    )


def _unsupported(float32: Path) -> str:
    """Return which operator TensorFlow Lite may have stumbled over; what it says itself names none, or it crashes."""
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
    """Return the file that a step was to write; a link out of its folder is none."""
    path = (output / name).resolve()
    if not path.is_file() or not path.is_relative_to(output.resolve()):
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
