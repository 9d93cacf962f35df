"""A first `edgeloop.yaml`: what a folder already says, what is asked, and the text."""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgeloop.contracts.schemas import manifest_schema
from edgeloop.errors import UsageError
from shared.releases.datasets import Dataset, DatasetError, read_dataset
from shared.releases.manifest_loader import MANIFEST_NAME, ManifestError, parse_manifest
from shared.releases.model_formats import model_format

SCHEMA_NAME: Final = ".edgeloop.schema.json"
PREPARE_SCRIPT: Final = "prepare.py"
TRAIN_SCRIPT: Final = "train.py"
_IGNORED: Final = frozenset({".git", "__pycache__", ".venv", "node_modules", ".edgeloop"})
_DEEPEST: Final = 3
_LICENCES: Final = (
    ("Apache License", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("BSD 3-Clause", "BSD-3-Clause"),
    ("Mozilla Public License Version 2.0", "MPL-2.0"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder says of itself."""

    name: str
    train: str | None = None
    test: str | None = None
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    minimum: float = -1.0
    maximum: float = 1.0
    model: str | None = None
    prepares: bool = False
    trains: bool = False
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What goes into the file."""

    name: str
    labels: tuple[str, ...]
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    prepare: str | None
    """The script that writes the datasets; None: they are files of the repository."""
    train_data: str
    test_data: str
    train: str | None
    """The script that trains; None: `model` is a file of the repository."""
    model: str
    boards: tuple[str, ...]
    accuracy: float
    licence: str | None = field(default=None)


def look_around(folder: Path) -> Found:
    """Return what the files of `folder` say; what cannot be read says nothing."""
    files = list(_files(folder))
    datasets = {name: data for name in files if name.endswith(".npz") and (data := _dataset(folder / name))}
    train = next((name for name in datasets if "train" in Path(name).stem), next(iter(datasets), None))
    test = next((name for name in datasets if "test" in Path(name).stem), None)
    known = datasets.get(train) if train else None
    models = [name for name in files if model_format(name) is not None and not name.endswith(".zip")]
    return Found(
        name=folder.resolve().name,
        train=train,
        test=test,
        shape=known.x.shape[1:] if known else None,
        classes=int(known.y.max()) + 1 if known and len(known) else None,
        minimum=_outward(float(known.x.min()), math.floor) if known and len(known) else -1.0,
        maximum=_outward(float(known.x.max()), math.ceil) if known and len(known) else 1.0,
        model=models[0] if models else None,
        prepares=PREPARE_SCRIPT in files,
        trains=TRAIN_SCRIPT in files,
        licence=_licence(folder),
    )


def _files(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        relative = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if name not in _IGNORED and len(relative.parts) < _DEEPEST)
        yield from ((relative / name).as_posix() for name in sorted(files))


def _dataset(file: Path) -> Dataset | None:
    try:
        return read_dataset(file)
    except (DatasetError, OSError):
        return None


def _outward(value: float, towards: Callable[[float], int]) -> float:
    """Round to two digits, away from the data: a range that the data touches is too tight for new ones."""
    if not math.isfinite(value) or value == 0:
        return 0.0
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return towards(value / scale) * scale


def _licence(folder: Path) -> str | None:
    for file in sorted(folder.glob("LICENSE*")):
        text = file.read_text("utf-8", errors="replace")[:400] if file.is_file() else ""
        for words, identifier in _LICENCES:
            if words in " ".join(text.split()):
                return identifier
    return None


def manifest_text(answers: Answers) -> str:
    """Return the file's text.

    Raises:
        UsageError: the answers do not make a manifest; one line for each problem.
    """
    text = "\n".join(_lines(answers)) + "\n"
    try:
        parse_manifest(text)
    except ManifestError as error:
        raise UsageError(str(error), next_step="answer again, or mend the file by hand") from error
    return text


def _lines(answers: Answers) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={SCHEMA_NAME}"
    yield "version: 1"
    yield f"name: {_text(answers.name)}"
    yield f"labels: {_list(answers.labels)}"
    yield ""
    yield "input:"
    yield f"  shape: {json.dumps(list(answers.shape))}"
    yield f"  minimum: {answers.minimum:g}                # smallest and largest value of a healthy sensor"
    yield f"  maximum: {answers.maximum:g}"
    yield ""
    yield "data:"
    if answers.prepare:
        yield f"  prepare: {{command: [python, {_text(answers.prepare)}]}}"
    yield f"  train: {{path: {_text(answers.train_data)}}}"
    yield f"  test: {{path: {_text(answers.test_data)}}}"
    yield ""
    yield "model:"
    if answers.train:
        yield f"  train: {{command: [python, {_text(answers.train)}]}}"
        yield f"  path: {_text(answers.model)}"
    else:
        yield f"  file: {_text(answers.model)}"
    yield ""
    yield f"boards: {_list(answers.boards)}"
    yield ""
    yield "gates:"
    yield f"  accuracy: {answers.accuracy:g}                # of the int8 model on the test set"
    if answers.licence:
        yield ""
        yield f"licences: {{code: {_text(answers.licence)}}}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"


def write(folder: Path, text: str, *, force: bool) -> tuple[Path, Path]:
    """Write the manifest and its schema for editors, and return both paths.

    Raises:
        UsageError: there is a manifest already.
    """
    manifest, schema = folder / MANIFEST_NAME, folder / SCHEMA_NAME
    require_new(folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    schema.write_text(json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    with manifest.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    return manifest, schema


def require_new(folder: Path, *, force: bool) -> None:
    """Raise UsageError when `folder` has a manifest and `force` is not given."""
    if not force and (folder / MANIFEST_NAME).exists():
        raise UsageError(f"{folder / MANIFEST_NAME} is there already", next_step="--force writes another one over it")
