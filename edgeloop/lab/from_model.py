"""A model file as the subject of a test: compiled here, with recorded inputs or probing ones."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeloop.bench.recordings import labels_of, read_inputs
from edgeloop.checking import slug
from edgeloop.compiling import emulated_board, model_bytes
from edgeloop.errors import UsageError
from edgeloop.lab.building import Built, build
from edgeloop.lab.subject import NEED_LABELS, PLAYBACK, Labels, Subject, Wish, chosen, played, sensor_windows
from edgeloop.models import ends_of, reference_answers
from services.artifact_builder.measuring import probing_inputs
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.procedures import Workload
from shared.releases.release import Quantisation

_SENSE: Final = frozenset({"smoke", PLAYBACK})
"""Procedures that ask for the second UART."""
_PROBES: Final = 20


def of_model(file: Path, wish: Wish, built: Built | None = None) -> Subject:
    """Compile a full-int8 .tflite, and read what it is to be tested on.

    Args:
        file: the model.
        wish: what the user asked for.
        built: its firmware, where it need not be compiled.

    Raises:
        UsageError: the model, the board, an input or a label is at fault, or missing.
        InfrastructureError: this machine is.
    """
    board, numerics = emulated_board(wish.board), wish.numerics or Numerics.TFLM
    tflite = model_bytes(file)
    taken, given = ends_of(file, tflite)
    inputs, labels = played(*_recorded(wish, input_bytes=taken.size_bytes, classes=given.size), wish)
    expected = reference_answers(file, tflite, numerics, inputs)
    quantisation = Quantisation(scale=taken.scale, zero_point=taken.zero_point)
    x = (inputs.astype(np.float32) - quantisation.zero_point) * np.float32(quantisation.scale)
    windows = sensor_windows(x.reshape(len(x), *taken.shape[1:]), quantisation, wish.sensors, ())
    built = built or build(
        file,
        tflite,
        board,
        numerics=numerics,
        toolchain=wish.toolchain,
        data=wish.data,
        reader=wish.procedure in _SENSE,
    )
    workload = Workload(
        board=board,
        model_digest=digest_of(tflite),
        inputs=inputs,
        expected=expected,
        labels=labels,
        numerics=numerics,
        static_ram_bytes=built.ram_bytes,
        accuracy=wish.accuracy,
    )
    return Subject(slug(file.stem), digest_of(tflite), built, workload, windows)


def _recorded(wish: Wish, *, input_bytes: int, classes: int) -> tuple[npt.NDArray[np.int8], Labels]:
    """Return inputs, random and extreme ones unless given, and their classes where they are needed or said."""
    known = wish.procedure in NEED_LABELS or wish.labels is not None
    if wish.inputs is None:
        if known:
            raise UsageError(
                f"--procedure {wish.procedure}: no inputs of known classes",
                next_step="give recorded inputs with --inputs, and their classes with --labels or in their names",
            )
        return probing_inputs(input_bytes, wish.rows or _PROBES), None
    inputs = read_inputs(wish.inputs, input_bytes)
    rows = chosen(len(inputs.names), wish)
    labels = labels_of(inputs, wish.labels, classes)[rows] if known else None
    return np.ascontiguousarray(inputs.tensors[rows]), labels
