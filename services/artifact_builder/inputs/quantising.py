"""Quantises a model: `conversion` as a program of its own, because TensorFlow costs seconds and half a gigabyte."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.artifact_builder.errors import AuthorError
from services.artifact_builder.inputs import conversion
from services.artifact_builder.inputs.quantised import NotQuantisedError, require_full_int8
from services.artifact_builder.inputs.sources import Source
from services.artifact_builder.programs import Room, how_it_ended, inside
from services.artifact_builder.sandbox.engines import Engine
from shared.releases.model_formats import ModelFormat
from shared.releases.release import Conversion, Recipe

_ROOT: Final = Path(__file__).parents[3]
_RESULTS: Final = (
    conversion.FLOAT32_FILE,
    conversion.INT8_FILE,
    conversion.PROBLEM_FILE,
    conversion.RESULT_FILE,
    conversion.SOURCE_FILE,
)


@dataclass(frozen=True, slots=True)
class ConversionInputs:
    """All that a quantised model depends on, beside code and packages."""

    source: Source
    train: bytes
    """The training data, .npz: what the ranges of activations are read from."""
    window: tuple[int, ...]
    classes: int
    seed: int
    engine: Engine


@dataclass(frozen=True, slots=True)
class Converted:
    """A model's files. One that was int8 from the start has no float32, and nothing converted it."""

    source: Source
    float32: bytes | None
    int8: bytes
    recipe: Recipe | None
    conversion: Conversion


async def convert(inputs: ConversionInputs, room: Room) -> Converted:
    """Convert the model to float32 and int8 .tflite; one that is int8 already is only checked.

    Raises:
        AuthorError: the model cannot be converted; the reason names the layer or shape.
    """
    if inputs.source.format is ModelFormat.TFLITE:
        return _checked(inputs)
    output = room.output
    model_file = f"model.{inputs.source.format}"
    (output / model_file).write_bytes(inputs.source.data)
    (output / "train.npz").write_bytes(inputs.train)
    request = conversion.Request(
        model_file, inputs.source.format, "train.npz", seed=inputs.seed, classes=inputs.classes
    )
    request.write(output)
    command = [sys.executable, "-m", conversion.__name__, conversion.REQUEST_FILE]
    limits = room.host.limits(room.host.conversion_timeout_s)
    ended = await room.run(command, limits, cwd=output, told={"PYTHONPATH": _ROOT})
    found = {name: path.read_bytes() for name in _RESULTS if (path := inside(output, name)) and path.is_file()}
    if not ended.succeeded:
        if problem := found.get(conversion.PROBLEM_FILE):
            raise AuthorError(problem.decode(errors="replace"), ended.last_lines)
        raise AuthorError(f"the conversion {how_it_ended(ended, limits)}", ended.last_lines)
    return _converted(inputs.source, found)


def _checked(inputs: ConversionInputs) -> Converted:
    int8 = inputs.source.data
    try:
        require_full_int8(int8, window=inputs.window, classes=inputs.classes)
    except NotQuantisedError as error:
        raise AuthorError(str(error)) from error
    return Converted(inputs.source, None, int8, None, Conversion())


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
