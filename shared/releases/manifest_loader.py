"""Reads `edgeloop.yaml` and says of every problem: the line, the key, what was found, what is allowed, what to do."""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from shared.boards import ImageBoard, catalogue, image_boards
from shared.events.dataset import DatasetRole
from shared.releases.manifest import Manifest
from shared.releases.model_formats import MODEL_ENDINGS, ModelFormat, model_format
from shared.yaml_text import YamlTextError, load_yaml

MANIFEST_NAME: Final = "edgeloop.yaml"
DATASET_ENDING: Final = ".npz"
MAXIMUM_BYTES: Final = 256 * 1024
MAXIMUM_NODES: Final = 20_000  # aliases multiply: a few lines can stand for gigabytes

MAXIMUM_CHARACTERS: Final = 4096
_UNUSABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

Location: TypeAlias = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend."""

    line: int
    """From 1; 0 when the problem is the file itself."""
    key: str
    """For example ``rollout.stages[1].percent``; empty when the problem is the whole document."""
    found: str
    allowed: str
    next_step: str

    def describe(self, file: str) -> str:
        """Return the problem in one line that editors can jump to."""
        place = f"{file}:{self.line}" if self.line else file
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}found {self.found}; allowed is {self.allowed}. Next: {self.next_step}"


class ManifestError(ValueError):
    """The manifest cannot be used. `problems` has all that is wrong with it, in the order of the file."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(problem.describe(file) for problem in self.problems))


def load_manifest(directory: Path) -> Manifest:
    """Read the manifest of the repository that is checked out in `directory`.

    Raises:
        ManifestError: there is none, or it has problems.
    """
    path = directory / MANIFEST_NAME
    if path.is_symlink() or not path.is_file():
        near = difflib.get_close_matches(MANIFEST_NAME, [entry.name for entry in directory.iterdir()], 1, 0.7)
        found = f"only {near[0]}" if near else "no such file"
        raise ManifestError(
            MANIFEST_NAME,
            [Problem(0, "", found, "a regular file of that name at the top of the repository", _FIRST_MANIFEST)],
        )
    data = path.read_bytes()
    if len(data) > MAXIMUM_BYTES:
        raise _unreadable(f"{len(data)} bytes", f"at most {MAXIMUM_BYTES} bytes", "move data out of the manifest")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"byte 0x{data[error.start]:02x}", "UTF-8", "save the file as UTF-8", line) from error
    return parse_manifest(text)


def parse_manifest(text: str, file: str = MANIFEST_NAME) -> Manifest:
    """Return the manifest that `text` is.

    Raises:
        ManifestError: it has problems.
    """
    document = _document(text, file)
    values = _plain(document, [MAXIMUM_NODES])
    if unusable := list(_unusable_texts(values)):
        raise ManifestError(
            file, [Problem(_line(document, location), _dotted(location), *said) for location, *said in unusable]
        )
    try:
        manifest = Manifest.model_validate(values, extra="forbid")
    except ValidationError as error:
        problems = [_of_validation(details, document) for details in error.errors(include_url=False)]
        raise ManifestError(file, problems) from error
    if problems := [
        Problem(_line(document, location), _dotted(location), found, allowed, step)
        for location, found, allowed, step in _contradictions(manifest)
    ]:
        raise ManifestError(file, problems)
    return manifest


_FIRST_MANIFEST: Final = "write one; examples/exercise-recognition/edgeloop.yaml of Edgeloop is complete"


def _unreadable(found: str, allowed: str, step: str, line: int = 0, file: str = MANIFEST_NAME) -> ManifestError:
    return ManifestError(file, [Problem(line, "", found, allowed, step)])


def _document(text: str, file: str) -> CommentedMap:
    try:
        document = load_yaml(text)
    except YamlTextError as error:
        if error.key_twice:
            raise _unreadable(error.problem, "each key once", "delete one of the two", error.line, file) from error
        step = "correct the indentation, brackets or quotes there; tabs cannot indent"
        raise _unreadable(f"a syntax error ({error.problem})", "YAML 1.2", step, error.line, file) from error
    if not isinstance(document, CommentedMap):
        raise _unreadable(_shown(document), "a mapping of keys to values", _FIRST_MANIFEST, 1, file)
    return document


def _plain(node: object, left: list[int]) -> Any:  # noqa: ANN401 - whatever YAML holds
    left[0] -= 1
    if left[0] < 0:
        raise _unreadable("aliases of aliases", f"at most {MAXIMUM_NODES} values in all", "write the values out")
    if isinstance(node, CommentedMap):
        return {key if isinstance(key, str) else str(key): _plain(value, left) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value, left) for value in node]
    for scalar in (bool, int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return node


def _unusable_texts(value: object, location: Location = ()) -> Iterator[tuple[Location, str, str, str]]:
    """What YAML can write and neither programs, nor files, nor terminals take: (place, found, allowed, next step)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for _, found, allowed, step in _unusable_texts(key):
                yield location, found, allowed, step
            yield from _unusable_texts(inner, (*location, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unusable_texts(inner, (*location, index))
    elif isinstance(value, str):
        if sign := _UNUSABLE.search(value):
            yield location, f"the character U+{ord(sign.group()):04X}", "text that can be printed", "delete it"
        elif len(value) > MAXIMUM_CHARACTERS:
            found, allowed = f"{len(value):,} characters", f"text of at most {MAXIMUM_CHARACTERS:,}"
            yield location, found, allowed, "put it into a file of the repository"


def _line(document: CommentedMap, location: Location) -> int:
    """Return the line of the deepest part of `location` that is in the file, from 1."""
    node: Any = document
    line = 1
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line


def _dotted(location: Location) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"{value[:60]!r} (text)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, int | float):
        return f"{value} (number)"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"


def _of_validation(details: ErrorDetails, document: CommentedMap) -> Problem:
    # Pydantic marks a mapping's own key with "[key]" behind it: that is no place in the file.
    location = tuple(part for part in details["loc"] if part != "[key]")
    line, key = _line(document, location), _dotted(location)
    if details["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), allowed, 1, 0.6)
        step = f"write {near[0]}" if near else "delete it"
        return Problem(line, key, "an unknown key", "one of " + ", ".join(allowed), step)
    if details["type"] == "missing":
        return Problem(line, key, "no such key, and it is required", _sense(location) or "a value", "add it")
    if details["type"] == "tuple_type" and isinstance(details["input"], str):
        words = ", ".join(details["input"].split())
        return Problem(line, key, _shown(details["input"]), "a list", f"write [{words}]")
    if details["type"] == "string_type" and isinstance(details["input"], int | float):
        return Problem(line, key, _shown(details["input"]), "text", f'write it in quotes: "{details["input"]}"')
    sense = _sense(location)
    return Problem(
        line, key, _shown(details["input"]), _worded(details), f"correct it ({sense})" if sense else "correct it"
    )


_WORDS: Final = {
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "at least {min_length} entries, here are {actual_length}",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "value_error": "{error}",
}


def _worded(details: ErrorDetails) -> str:
    if details["type"] in _WORDS:
        return _WORDS[details["type"]].format(**details.get("ctx", {})).removeprefix("must be ")
    return details["msg"].removeprefix("Input should be ").removeprefix("a valid ")


def _fields_at(location: Location) -> set[str]:
    """Return the keys that are allowed at `location`."""
    model = _type_at(location)
    return set(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else set()


def _type_at(location: Location) -> Any:  # noqa: ANN401 - an annotation
    annotation: Any = Manifest
    for part in location:
        annotation = _without_none(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            if field is None:
                return None
            annotation = field.annotation
        else:
            arguments = get_args(annotation)
            annotation = (arguments[-1] if get_origin(annotation) is dict else arguments[0]) if arguments else None
    return _without_none(annotation)


def _without_none(annotation: Any) -> Any:  # noqa: ANN401 - an annotation
    if get_origin(annotation) in (types.UnionType, typing.Union):
        return next(argument for argument in get_args(annotation) if argument is not types.NoneType)
    return annotation


def _sense(location: Location) -> str:
    """Return the documentation of the key at `location`, if it has one."""
    parent = _type_at(location[:-1])
    if not (location and isinstance(parent, type) and issubclass(parent, BaseModel)):
        return ""
    field = parent.model_fields.get(str(location[-1]))
    return (field.description or "") if field else ""


def _contradictions(manifest: Manifest) -> Iterator[tuple[Location, str, str, str]]:
    """What no single key's type can say: (place, found, allowed, next step)."""
    names = ", ".join(catalogue())
    for index, board in enumerate(manifest.boards):
        if board not in catalogue():
            near = difflib.get_close_matches(board, catalogue(), 1, 0.5)
            step = (
                f"write {near[0]}" if near else "choose a board of the catalogue, or add one to shared/boards/catalogue"
            )
            yield ("boards", index), repr(board), f"one of {names}", step
    yield from _budget_contradictions(manifest)
    for board in manifest.budgets:
        if board not in manifest.boards:
            yield (
                ("budgets", board),
                "a budget for a board that is not built",
                "a name from boards",
                "add the board there",
            )
    for name in ("labels", "boards"):
        values: tuple[str, ...] = getattr(manifest, name)
        for index, value in enumerate(values):
            if value in values[:index]:
                yield (name, index), f"{value!r} twice", "each name once", "delete one of the two"
    window = manifest.input
    if window.minimum >= window.maximum:
        yield ("input", "minimum"), f"{window.minimum}", f"a number below input.maximum, {window.maximum}", "swap them"
    if window.channels and len(window.channels) != window.shape[-1]:
        found, allowed = f"{len(window.channels)} names", f"{window.shape[-1]}, the last axis of input.shape"
        yield ("input", "channels"), found, allowed, "name each channel once"
    yield from _release_contradictions(manifest)
    yield from _model_contradictions(manifest)
    yield from _data_contradictions(manifest)
    yield from _stage_contradictions(manifest)


_LARGEST_VERSION: Final = (255, 255, 65_535)
"""What the header of a MCUboot image has room for."""


def _release_contradictions(manifest: Manifest) -> Iterator[tuple[Location, str, str, str]]:
    if any(int(part) > most for part, most in zip(manifest.release.split("."), _LARGEST_VERSION, strict=True)):
        allowed = "at most " + ".".join(map(str, _LARGEST_VERSION))
        yield (
            ("release",),
            repr(manifest.release),
            allowed,
            "choose smaller numbers: image headers have no more room",
        )
    for key, expression in manifest.licences.model_dump(exclude_none=True).items():
        from shared.releases.licences import licence_problem  # noqa: PLC0415 - only a build reads manifests' licences

        if problem := licence_problem(expression):
            yield ("licences", key), problem, "an SPDX expression", "correct it, or leave it out when it is unknown"


def _budget_contradictions(manifest: Manifest) -> Iterator[tuple[Location, str, str, str]]:
    for name, budget in manifest.budgets.items():
        board = catalogue().get(name)
        modelled = (("latency_ms", budget.latency_ms), ("energy_uj", budget.energy_uj))
        for key in (key for key, allowed in modelled if allowed is not None and board is not None):
            place = ("budgets", name, key)
            if not isinstance(board, ImageBoard):
                found = f"a budget that is modelled from counted instructions, and {name} gets a library"
                yield place, found, f"such budgets for {', '.join(image_boards())}", "delete it, and measure the board"
            elif key == "energy_uj" and board.published_run is None:
                found = f"a budget of energy, and nobody has published what a run on {board.core} takes"
                with_one = ", ".join(other.name for other in image_boards().values() if other.published_run)
                yield place, found, f"budgets of energy for {with_one}", "delete it, or budget latency_ms"


def _model_contradictions(manifest: Manifest) -> Iterator[tuple[Location, str, str, str]]:
    model = manifest.model
    if (model.train is None) == (model.file is None):
        found = "both train and file" if model.train else "neither train nor file"
        yield ("model",), found, "exactly one of them", "say where the model comes from: a step, or a file"
    key = "path" if model.file is None else "file"
    name = model.file or model.path
    if model_format(name) is None:
        allowed = f"a name that ends in {', '.join(MODEL_ENDINGS)} (a SavedModel is a folder, or a .zip of one)"
        yield ("model", key), repr(name), allowed, "save it in such a format"
    if model_format(name) is ModelFormat.TFLITE:
        for gate in sorted({"accuracy_loss", "agreement"} & manifest.gates.model_fields_set):
            found = f"a gate on float32, and {name}, which is int8 from the start"
            step = f"delete {gate}; gates.accuracy judges the int8 model itself"
            yield ("gates", gate), found, "gates that int8 alone can answer", step


def _data_contradictions(manifest: Manifest) -> Iterator[tuple[Location, str, str, str]]:
    data = manifest.data
    places: list[tuple[Location, str]] = [(("data", "train", "path"), data.train.path)]
    places.append((("data", "test", "path"), data.test.path))
    places += [(("data", "more", index, "path"), file.path) for index, file in enumerate(data.more)]
    seen: set[str] = set()
    for place, path in places:
        if not path.endswith(DATASET_ENDING):
            allowed = f"a name that ends in {DATASET_ENDING}: three arrays, x, y and group"
            yield place, repr(path), allowed, "write it with numpy.savez_compressed"
        if path in seen:
            yield place, f"{path!r} twice", "each dataset once", "delete one of the two"
        seen.add(path)
    if data.test.role is DatasetRole.SYNTHETIC:
        # Whoever generates the test set decides the verdict: it says how well the generator was learnt, not the world.
        step = "measure a test set; keep the synthetic one as data.train or under data.more"
        yield ("data", "test", "role"), "a synthetic test set", "recordings: baseline, expanded or production", step


def _stage_contradictions(manifest: Manifest) -> Iterator[tuple[Location, str, str, str]]:
    stages = manifest.rollout.stages
    for index, stage in enumerate(stages):
        place = ("rollout", "stages", index)
        if (stage.devices is None) == (stage.percent is None):
            found = "both devices and percent" if stage.devices else "neither devices nor percent"
            yield place, found, "exactly one of them", "say how far this stage goes"
        if stage.name in [earlier.name for earlier in stages[:index]]:
            yield (*place, "name"), f"{stage.name!r} twice", "each name once", "rename one of the two"
    if stages and stages[-1].percent != 100:
        yield (
            ("rollout", "stages", len(stages) - 1),
            "a last stage that is not the whole fleet",
            "percent: 100 at the end",
            "add a stage {name: all, percent: 100}",
        )
