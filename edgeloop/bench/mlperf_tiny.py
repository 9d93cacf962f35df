"""MLPerf Tiny's accuracy and performance of a model on an emulated board, held against the reference bit by bit."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeloop.bench.recordings import Recordings, read_recordings
from edgeloop.bench.running import count, run_all
from edgeloop.compiling import compile_file, differing_bits, model_bytes
from edgeloop.errors import EdgeloopError, InfrastructureError, UsageError
from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError
from services.artifact_builder.codegen.graph import Graph
from services.artifact_builder.codegen.reader import read_graph
from services.artifact_builder.firmware.compiling import Toolchain
from shared.artifacts.compilation import IMAGE_FILE
from shared.boards import Board, ImageBoard
from shared.boards.modelling import modelled_energy, modelled_latency
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.inference import InferenceError, ReferenceUnavailableError
from shared.inference.reference import reference_outputs
from shared.procedures import acceptance, parity
from shared.procedures.rig import Emulator
from shared.releases.gates import wilson_interval

Json: TypeAlias = "str | int | float | list[float] | None"

_RELEASE: Final = "1.0.0"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What ran, and what came of it.

    Attributes:
        recordings: The inputs.
        outputs: The board's int8 output vector of each, shape (inputs, output bytes).
        mismatches: How many of these differ from the reference's.
        figures: As the command prints them. Times and energies stand beside what they are and what they rest on.
    """

    recordings: Recordings
    outputs: npt.NDArray[np.int8]
    numerics: Numerics
    mismatches: int
    figures: Mapping[str, Json]


def run(
    model: Path,
    board: Board,
    *,
    inputs: Path,
    labels: Path | None,
    numerics: Numerics,
    toolchain: Toolchain,
    emulator: Emulator,
    boards: int | None,
    data: Path,
) -> Benchmark:
    """Compile a model as `edgeloop compile` does, and run every recorded input on the emulated board.

    Args:
        model: a full-int8 .tflite with one input and one output.
        board: an emulated one.
        inputs: folder of int8 tensors, ``*.bin``.
        labels: their classes; None: as their names say.
        numerics: whose bits the firmware gives, and is held against.
        toolchain: the compiler.
        emulator: what stands for the board.
        boards: how many of them run at once; None: as many as there are processors.
        data: the stack's directory, with the signing key and the compiler's cache.

    Raises:
        UsageError: the model, the board, an input or a label is at fault.
        InfrastructureError: this machine is.
    """
    if not isinstance(board, ImageBoard):
        raise UsageError(f"--board {board.name}: nothing emulates it", next_step="take cortex-m4, or run on the board")
    tflite = model_bytes(model)
    graph = _graph(model, tflite)
    recordings = read_recordings(
        inputs, labels, input_bytes=_int8_bytes(graph, "input"), classes=_int8_bytes(graph, "output")
    )
    expected = _expected(model, tflite, numerics, recordings.tensors)
    compilation = compile_file(
        model, board, numerics=numerics, toolchain=toolchain, release=_RELEASE, key=None, inputs=None, data=data
    )
    image = next(file.data for file in compilation.files if file.name == IMAGE_FILE)
    counted = count(image, board, emulator, recordings.tensors[0].tobytes())
    outputs = run_all(image, board, emulator, recordings.tensors, boards=boards or os.cpu_count() or 1)
    score = acceptance.score_of(outputs, recordings.labels)
    compared = parity.compare(outputs, expected)
    latency = modelled_latency(counted.instructions, board)
    low, high = wilson_interval(score.correct, score.rows)
    return Benchmark(
        recordings=recordings,
        outputs=np.stack([np.frombuffer(output, np.int8) for output in outputs]),
        numerics=numerics,
        mismatches=compared.mismatches,
        figures={
            "benchmark": "mlperf-tiny",
            "model": digest_of(tflite),
            "board": board.name,
            "board_class": "emulated",
            "emulator": counted.emulator,
            "numerics": numerics.value,
            "toolchain": compilation.report.toolchain,
            "inputs": score.rows,
            "accuracy": round(score.accuracy, 6),
            "accuracy_interval": [round(low, 6), round(high, 6)],
            "mismatches": compared.mismatches,
            "instructions": counted.instructions,
            **latency.fields("latency_ms"),
            **modelled_energy(latency, board).fields("energy_uj"),
        },
    )


def _graph(model: Path, tflite: bytes) -> Graph:
    try:
        return read_graph(tflite)
    except (MalformedModelError, UnsupportedModelError) as error:
        raise UsageError(f"{model}: {error}") from error


def _int8_bytes(graph: Graph, side: str) -> int:
    try:
        tensor = graph.input if side == "input" else graph.output
    except UnsupportedModelError as error:
        raise UsageError(f"a classifier with one input and one output is benchmarked: {error}") from error
    return int(np.prod(tensor.shape))


def _expected(model: Path, tflite: bytes, numerics: Numerics, tensors: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    try:
        return reference_outputs(numerics, tflite, tensors)
    except InferenceError as error:
        raise UsageError(f"{model}: {error}") from error
    except ReferenceUnavailableError as error:
        raise InfrastructureError(f"{model}: {error}") from error


def mismatch_of(benchmark: Benchmark) -> EdgeloopError | None:
    """Return the error of a firmware whose bits are not the reference's."""
    if not benchmark.mismatches:
        return None
    return differing_bits(benchmark.mismatches, len(benchmark.outputs), benchmark.numerics)


def summary(benchmark: Benchmark) -> Sequence[tuple[str, str]]:
    """Return the figures as lines for people."""
    figures = benchmark.figures
    return (
        ("board", f"{figures['board']}, emulated by {figures['emulator']}; {figures['toolchain']}"),
        (
            "accuracy",
            "{} of {} inputs; 95 % interval {} to {}".format(
                figures["accuracy"], figures["inputs"], *_interval(figures["accuracy_interval"])
            ),
        ),
        (f"as {figures['numerics']}", f"{figures['mismatches']} output vectors differ"),
        ("instructions", f"{figures['instructions']:,}, counted on the first input"),
        ("latency", _figure(figures, "latency_ms", "ms")),
        ("energy", _figure(figures, "energy_uj", "µJ")),
    )


def _interval(value: Json) -> tuple[float, float]:
    assert isinstance(value, list)
    return value[0], value[1]


def _figure(figures: Mapping[str, Json], name: str, unit: str) -> str:
    value, basis = figures[name], figures[f"{name}_basis"]
    return f"none: {basis}" if value is None else f"{value} {unit}, {figures[f'{name}_class']}: {basis}"
