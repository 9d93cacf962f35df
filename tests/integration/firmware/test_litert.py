"""Firmware generated with the numerics `litert` gives the bits of LiteRT's default interpreter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import image_board
from shared.emulation.on_qemu import boot_qemu
from shared.emulation.on_unicorn import boot_unicorn
from shared.events.lab import Numerics

schema = pytest.importorskip(
    "ai_edge_litert.schema_py_generated",
    reason="ai-edge-litert is not installed; pip install 'edgeloop[validators]'",
)

Images = Callable[..., bytes]
Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]

_ROWS = 20
_MLPERF_ROWS = 3
_RECORDINGS = 20
_UNITS = 3000
_PAIRS = 256 * 256


def _litert_inputs(model: bytes, rows: int) -> NDArray[np.int8]:
    rng = np.random.default_rng(len(model))
    size = generate(model).input_bytes
    extremes = np.stack([np.full(size, -128), np.full(size, 127), np.zeros(size)])
    return np.concatenate([extremes, rng.integers(-128, 128, (rows, size))])[:rows].astype(np.int8)


def _outputs(
    make_image: Images,
    model: bytes,
    rows: NDArray[np.int8],
    board: str = "cortex-m4",
    toolchain: Toolchain = Toolchain.ZIG,
) -> list[bytes]:
    image = make_image(generate(model, Numerics.LITERT), board, toolchain)
    device = boot_unicorn(image, image_board(board))
    return [device.infer(row.tobytes()).output for row in rows]


@pytest.mark.parametrize(
    "name", ["cnn_1d", "separable_1d", "residual_2d", "dilated_1d", "dense", "grouped_2d", "free_batch"]
)
def test_every_kind_of_layer_matches(name: str, models: Path, make_image: Images, litert: Reference) -> None:
    model = (models / f"{name}.tflite").read_bytes()
    rows = _litert_inputs(model, _ROWS)
    assert _outputs(make_image, model, rows) == litert(model, rows)


@pytest.mark.parametrize("board", ["cortex-m0plus", "cortex-m7", "cortex-m33"])
@pytest.mark.parametrize("name", ["cnn_1d", "dense"])
def test_cores_with_and_without_an_fpu_match(
    name: str, board: str, models: Path, make_image: Images, litert: Reference
) -> None:
    model = (models / f"{name}.tflite").read_bytes()
    rows = _litert_inputs(model, 5)
    assert _outputs(make_image, model, rows, board) == litert(model, rows)


@pytest.mark.parametrize("board", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_a_core_with_an_fpu_takes_no_more_instructions_than_for_tflm(
    board: str, models: Path, make_image: Images
) -> None:
    model = (models / "cnn_1d.tflite").read_bytes()
    row = _litert_inputs(model, 4)[3].tobytes()
    instructions = {}
    for numerics in Numerics:
        image = make_image(generate(model, numerics), board)
        device = boot_unicorn(image, image_board(board), count_instructions=True)
        instructions[numerics] = device.infer(row).instructions or 0
    assert 0 < instructions[Numerics.LITERT] <= 1.02 * instructions[Numerics.TFLM]


@pytest.mark.parametrize("board", ["cortex-m0plus", "cortex-m4", "cortex-m7"])
def test_gcc_matches(board: str, models: Path, make_image: Images, litert: Reference, gcc: Toolchain) -> None:
    model = (models / "cnn_1d.tflite").read_bytes()
    rows = _litert_inputs(model, 5)
    assert _outputs(make_image, model, rows, board, gcc) == litert(model, rows)


@pytest.mark.parametrize("board", ["cortex-m4", "cortex-m33"])
@pytest.mark.usefixtures("qemu")
def test_the_fpu_of_another_emulator_rounds_alike(
    board: str, models: Path, make_image: Images, litert: Reference
) -> None:
    model = (models / "cnn_1d.tflite").read_bytes()
    rows = _litert_inputs(model, 5)
    process = boot_qemu(make_image(generate(model, Numerics.LITERT), board), image_board(board))
    try:
        assert [process.infer(row.tobytes()).output for row in rows] == litert(model, rows)
    finally:
        process.close()


@pytest.mark.parametrize("name", ["kws_ref_model", "vww_96_int8", "pretrainedResnet_quant"])
def test_mlperf_tiny_matches(name: str, mlperf: Path, make_image: Images, litert: Reference) -> None:
    model = (mlperf / "models" / f"{name}.tflite").read_bytes()
    rows = _litert_inputs(model, _MLPERF_ROWS)
    assert _outputs(make_image, model, rows) == litert(model, rows)


def test_keyword_spotting_matches_on_recordings_and_is_not_tflm(
    mlperf: Path, make_image: Images, litert: Reference, tflm: Reference
) -> None:
    model = (mlperf / "models" / "kws_ref_model.tflite").read_bytes()
    files = sorted((mlperf / "kws01").glob("*.bin"))[:_RECORDINGS]
    rows = np.stack([np.frombuffer(file.read_bytes(), np.int8) for file in files])
    theirs = litert(model, rows)
    assert _outputs(make_image, model, rows) == theirs
    assert theirs != tflm(model, rows)


@pytest.mark.parametrize("board", ["cortex-m0plus", "cortex-m4"])
def test_sums_and_scales_of_every_size_are_rounded_alike(board: str, make_image: Images, litert: Reference) -> None:
    """A dense layer of one input: each of its units is another sum, scale and tie."""
    model = _one_input_and_many_units(np.random.default_rng(3))
    rows = np.arange(-128, 128, 15).astype(np.int8).reshape(-1, 1)
    assert _outputs(make_image, model, rows, board) == litert(model, rows)


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_pair_of_values_is_added_and_multiplied_alike(
    operator: str, seed: int, make_image: Images, litert: Reference
) -> None:
    model = _every_pair(operator, np.random.default_rng(seed))
    rows = np.repeat(np.arange(-128, 128), 256).astype(np.int8).reshape(1, -1)
    assert _outputs(make_image, model, rows) == litert(model, rows)


def _one_input_and_many_units(rng: np.random.Generator) -> bytes:
    scales = 2.0 ** rng.uniform(-24, 8, _UNITS)
    bias = rng.integers(-(2**31), 2**31, _UNITS) >> rng.integers(0, 31, _UNITS)
    # A third of the units meet ties: halves of odd numbers, and products that float32 must round first.
    scales[::3] = 2.0 ** rng.integers(-10, 2, len(scales[::3]))
    bias[::3] = rng.integers(-300, 300, len(bias[::3]))
    scales[1::3] = rng.uniform(20, 120, len(scales[1::3])) / np.abs(bias[1::3] + 0.5)
    tensors = _Tensors()
    source = tensors.activation((1, 1), 1.0, 0)
    weights = tensors.constant(rng.integers(-1, 2, (_UNITS, 1)).astype(np.int8), scales)
    biases = tensors.constant(bias.astype(np.int32), scales)
    result = tensors.activation((1, _UNITS), 1.0, 3)
    return tensors.model("FULLY_CONNECTED", "FullyConnected", [source, weights, biases], result)


def _every_pair(operator: str, rng: np.random.Generator) -> bytes:
    scale = [float(x) for x in rng.uniform(0.01, 0.2, 3)]
    zero = [int(x) for x in rng.integers(-40, 40, 3)]
    tensors = _Tensors()
    source = tensors.activation((1, _PAIRS), scale[0], zero[0])
    values = np.tile(np.arange(-128, 128), 256).astype(np.int8).reshape(1, -1)
    constant = tensors.constant(values, np.array([scale[1]]), zero[1])
    result = tensors.activation((1, _PAIRS), 3 * scale[2], zero[2])
    return tensors.model(operator, operator.capitalize(), [source, constant], result)


class _Tensors:
    """Collects tensors, and packs them with one operator."""

    def __init__(self) -> None:
        self._buffers: list[Any] = [schema.BufferT()]
        self._tensors: list[Any] = []

    def activation(self, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        return self._add(schema.TensorType.INT8, shape, 0, [scale], zero_point)

    def constant(self, values: NDArray[Any], scales: NDArray[np.float64], zero_point: int = 0) -> int:
        self._buffers.append(schema.BufferT())
        self._buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        kind = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
        return self._add(kind, values.shape, len(self._buffers) - 1, scales.tolist(), zero_point)

    def _add(self, kind: int, shape: tuple[int, ...], buffer: int, scales: list[float], zero_point: int) -> int:
        made = schema.TensorT()
        made.shape, made.type, made.buffer, made.name = list(shape), kind, buffer, f"t{len(self._tensors)}".encode()
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = scales, [zero_point] * len(scales)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def model(self, name: str, options: str, inputs: list[int], output: int) -> bytes:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 4 if name == "FULLY_CONNECTED" else 2
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
        operator.builtinOptions = getattr(schema, f"{options}OptionsT")()
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self._tensors, [operator]
        subgraph.inputs, subgraph.outputs = [0], [output]
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [subgraph], self._buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
