"""The formats of models that a build takes, told by the ending of a model's name."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class ModelFormat(StrEnum):
    """What a repository's model is, before anything is done to it."""

    KERAS = "keras"
    SAVED_MODEL = "saved-model"
    ONNX = "onnx"
    TFLITE = "tflite"
    """Full int8 already: whoever wrote it quantised it."""


MODEL_ENDINGS: Final[Mapping[str, ModelFormat]] = {
    ".keras": ModelFormat.KERAS,
    ".onnx": ModelFormat.ONNX,
    ".tflite": ModelFormat.TFLITE,
    "/": ModelFormat.SAVED_MODEL,  # TensorFlow saves a folder
    ".zip": ModelFormat.SAVED_MODEL,  # that folder, packed
}


def model_format(name: str) -> ModelFormat | None:
    """Return the format of the model that is called `name`, or None when its ending says none."""
    return next((found for ending, found in MODEL_ENDINGS.items() if name.endswith(ending)), None)
