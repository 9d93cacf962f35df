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
from edgeloop.compiling import compile_file, differing_bits, emulated_board, model_bytes
from edgeloop.errors import EdgeloopError
from edgeloop.models import ends_of, reference_answers
from services.artifact_builder.codegen.graph import Tensor
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.artifacts.compilation import IMAGE_FILE
from shared.boards import Board
from shared.boards.modelling import Figure, modelled_energy, modelled_latency
from shared.emulation.emulators import Emulator
from shared.events import digest_of
from shared.events.lab import Numerics
from shared.procedures import acceptance, parity
from shared.releases.gates import wilson_interval

Json: TypeAlias = "str | int | float | list[float] | dict[str, dict[str, float]] | None"

_RELEASE: Final = "1.0.0"


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be benchmarked.

    Attributes:
        model: The .tflite.
        output: Its output tensor.
        recordings: The inputs.
        expected: The reference's int8 output vector of each, shape (inputs, output bytes).
    """

    file: Path
    model: bytes
    output: Tensor
    recordings: Recordings
    expected: npt.NDArray[np.int8]
    numerics: Numerics


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What ran, and what came of it.

    Attributes:
        case: What was asked.
        outputs: The board's int8 output vector of each input, shape (inputs, output bytes).
        mismatches: How many of these differ from the reference's.
        figures: As the command prints them. Times and energies stand beside what they are and what they rest on.
    """

    case: Case
    outputs: npt.NDArray[np.int8]
    mismatches: int
    figures: Mapping[str, Json]


def prepare(model: Path, *, inputs: Path, labels: Path | None, numerics: Numerics) -> Case:
    """Read a model and its inputs, and ask the reference runtime for the right bits.

    Args:
        model: a full-int8 .tflite with one input and one output.
        inputs: int8 tensors, as `read_inputs` takes them.
        labels: their classes, as `labels_of` takes them.
        numerics: whose bits are right.

    Raises:
        UsageError: the model, an input or a label is at fault.
        InfrastructureError: there is no reference on this machine.
    """
    tflite = model_bytes(model)
    taken, given = ends_of(model, tflite)
    recordings = read_recordings(inputs, labels, input_bytes=taken.size, classes=given.size)
    expected = reference_answers(model, tflite, numerics, recordings.tensors)
    return Case(model, tflite, given, recordings, expected, numerics)


def run_emulated(
    case: Case, board: Board, *, toolchain: Toolchain, emulator: Emulator, boards: int | None, data: Path
) -> Benchmark:
    """Compile the model as `edgeloop compile` does, and run every input on emulated boards.

    Args:
        case: what to run.
        board: an emulated one.
        toolchain: the compiler.
        emulator: what stands for the board.
        boards: how many of them run at once; None: as many as there are processors.
        data: the stack's directory, with the signing key and the compiler's cache.

    Raises:
        UsageError: the model or the board is at fault.
        InfrastructureError: this machine is.
    """
    emulated = emulated_board(board)
    compilation = compile_file(
        case.file,
        emulated,
        numerics=case.numerics,
        toolchain=toolchain,
        release=_RELEASE,
        key=None,
        inputs=None,
        data=data,
    )
    image = next(file.data for file in compilation.files if file.name == IMAGE_FILE)
    tensors = case.recordings.tensors
    counted = count(image, emulated, emulator, tensors[0].tobytes())
    outputs = run_all(image, emulated, emulator, tensors, boards=boards or os.cpu_count() or 1)
    ran: Mapping[str, Json] = {
        "board_class": "emulated",
        "ran_on": counted.emulator,
        "toolchain": compilation.report.toolchain,
        "instructions": counted.instructions,
    }
    return judged(case, board, outputs, modelled_latency(counted.instructions, emulated), ran)


def judged(
    case: Case,
    board: Board,
    outputs: list[bytes],
    latency: Figure,
    ran: Mapping[str, Json],
    *,
    energy: Figure | None = None,
) -> Benchmark:
    """Hold what a board answered against labels and reference. Energy that nobody measured is modelled."""
    score = acceptance.score_of(outputs, case.recordings.labels)
    compared = parity.compare(outputs, case.expected)
    low, high = wilson_interval(score.correct, score.rows)
    return Benchmark(
        case=case,
        outputs=np.stack([np.frombuffer(output, np.int8) for output in outputs]),
        mismatches=compared.mismatches,
        figures={
            "benchmark": "mlperf-tiny",
            "model": digest_of(case.model),
            "board": board.name,
            "numerics": case.numerics.value,
            "inputs": score.rows,
            "accuracy": round(score.accuracy, 6),
            "accuracy_interval": [round(low, 6), round(high, 6)],
            "mismatches": compared.mismatches,
            **ran,
            **latency.fields("latency_ms"),
            **(energy or modelled_energy(latency, board)).fields("energy_uj"),
        },
    )


def mismatch_of(benchmark: Benchmark) -> EdgeloopError | None:
    """Return the error of a firmware whose bits are not the reference's."""
    if not benchmark.mismatches:
        return None
    return differing_bits(benchmark.mismatches, len(benchmark.outputs), benchmark.case.numerics)


def summary(benchmark: Benchmark) -> Sequence[tuple[str, str]]:
    """Return the figures as lines for people."""
    figures = benchmark.figures
    counted = figures["instructions"]
    return (
        ("board", f"{figures['board']}, {figures['board_class']}: {figures['ran_on']}"),
        ("accuracy", _accuracy(figures)),
        (f"as {figures['numerics']}", f"{figures['mismatches']} output vectors differ"),
        ("instructions", "not counted" if counted is None else f"{counted:,}, counted on the first input"),
        ("latency", _figure(figures, "latency_ms", "ms")),
        ("energy", _figure(figures, "energy_uj", "µJ")),
    )


def _accuracy(figures: Mapping[str, Json]) -> str:
    interval = figures["accuracy_interval"]
    assert isinstance(interval, list)
    return f"{figures['accuracy']} of {figures['inputs']} inputs; 95 % interval {interval[0]} to {interval[1]}"


def _figure(figures: Mapping[str, Json], name: str, unit: str) -> str:
    value, basis = figures[name], figures[f"{name}_basis"]
    return f"none: {basis}" if value is None else f"{value} {unit}, {figures[f'{name}_class']}: {basis}"
