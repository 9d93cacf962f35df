"""Single layers of many shapes, strides, paddings, dilations and scales, against both reference runtimes.

Models are put together as flatbuffers here, because a converter would choose the shapes and scales itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers
import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import generate
from shared.boards import image_board
from shared.emulation.on_unicorn import boot_unicorn
from shared.events.lab import Numerics

schema = pytest.importorskip(
    "tflite_micro.tensorflow.lite.micro.python.schema_py_generated",
    reason="tflite-micro is published for x86_64 Linux only",
)

Images = Callable[..., bytes]
Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]

_ROWS = 6
_SAME, _VALID = 0, 1


@dataclass(frozen=True)
class Layer:
    """One operator on one input. `constants` are weights first, then the bias."""

    operator: str
    options: str
    fields: dict[str, float]
    input: tuple[int, ...]
    output: tuple[int, ...]
    weights: tuple[int, ...] = ()
    scale_axis: int = 0
    bias: bool = True
    version: int = 3
    axes: tuple[int, ...] = ()
    activation: int = 0
    output_scale: float = 0.0
    output_zero_point: int | None = None
    input_scale: float = 0.0
    operand: tuple[int, ...] = ()
    operand_scale: float = 0.07
    """A constant that is added or subtracted, of this shape and scale."""
    bias_offset: int = 0
    """What every bias has more than a random number."""
    first_scale: float = 0.0
    """The first channel's, where it lies far from the others'."""


def _window(**fields: int) -> dict[str, float]:
    return {"strideH": 1, "strideW": 1, "padding": _VALID, **fields}


_LAYERS = {
    "conv 1x1": Layer("CONV_2D", "Conv2D", _window(), (1, 5, 4, 7), (1, 5, 4, 9), (9, 1, 1, 7)),
    "conv one channel": Layer("CONV_2D", "Conv2D", _window(), (1, 6, 6, 1), (1, 4, 5, 1), (1, 3, 2, 1)),
    "conv same, odd stride": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME, strideH=2, strideW=3), (1, 9, 10, 3), (1, 5, 4, 6), (6, 4, 5, 3)
    ),
    "conv wider than its input": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME), (1, 2, 3, 2), (1, 2, 3, 4), (4, 5, 7, 2)
    ),
    "conv dilated both ways": Layer(
        "CONV_2D",
        "Conv2D",
        _window(padding=_SAME, dilationHFactor=2, dilationWFactor=3),
        (1, 8, 9, 2),
        (1, 8, 9, 5),
        (5, 3, 2, 2),
    ),
    "conv dilated in height only": Layer(
        "CONV_2D",
        "Conv2D",
        _window(dilationHFactor=2, dilationWFactor=1),
        (1, 9, 5, 3),
        (1, 5, 4, 6),
        (6, 3, 2, 3),
    ),
    "conv in groups": Layer("CONV_2D", "Conv2D", _window(), (1, 4, 5, 6), (1, 3, 3, 9), (9, 2, 3, 2), version=6),
    "conv without bias, relu6": Layer(
        "CONV_2D", "Conv2D", _window(), (1, 4, 4, 3), (1, 3, 3, 5), (5, 2, 2, 3), bias=False, activation=3
    ),
    "conv of several lines": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME, strideW=2), (3, 1, 9, 4), (3, 1, 5, 6), (6, 1, 3, 4)
    ),
    "depthwise of several lines": Layer(
        "DEPTHWISE_CONV_2D",
        "DepthwiseConv2D",
        _window(depthMultiplier=1),
        (2, 1, 17, 8),
        (2, 1, 16, 8),
        (1, 1, 2, 8),
        3,
    ),
    "conv scaled up": Layer(
        "CONV_2D", "Conv2D", _window(), (1, 3, 3, 2), (1, 3, 3, 3), (3, 1, 1, 2), output_scale=0.0001
    ),
    "depthwise, blocks and a rest": Layer(
        "DEPTHWISE_CONV_2D",
        "DepthwiseConv2D",
        _window(padding=_SAME, depthMultiplier=1, strideW=2),
        (1, 6, 7, 11),
        (1, 6, 4, 11),
        (1, 3, 3, 11),
        3,
    ),
    "depthwise with a multiplier": Layer(
        "DEPTHWISE_CONV_2D",
        "DepthwiseConv2D",
        _window(padding=_SAME, depthMultiplier=3),
        (1, 4, 5, 2),
        (1, 4, 5, 6),
        (1, 2, 5, 6),
        3,
    ),
    "depthwise dilated": Layer(
        "DEPTHWISE_CONV_2D",
        "DepthwiseConv2D",
        _window(depthMultiplier=1, dilationHFactor=2, dilationWFactor=2),
        (1, 7, 8, 4),
        (1, 3, 6, 4),
        (1, 3, 2, 4),
        3,
    ),
    "dense, one scale": Layer("FULLY_CONNECTED", "FullyConnected", {}, (1, 33), (1, 10), (10, 33), -1, version=4),
    "dense, a scale per unit": Layer("FULLY_CONNECTED", "FullyConnected", {}, (1, 17), (1, 5), (5, 17), version=4),
    "dense on several rows, relu": Layer(
        "FULLY_CONNECTED",
        "FullyConnected",
        {"keepNumDims": True},
        (1, 3, 8),
        (1, 3, 6),
        (6, 8),
        -1,
        version=5,
        activation=1,
    ),
    "average over borders": Layer(
        "AVERAGE_POOL_2D",
        "Pool2D",
        _window(padding=_SAME, filterHeight=3, filterWidth=2, strideH=2),
        (1, 7, 5, 3),
        (1, 4, 5, 3),
        version=2,
    ),
    "maximum over borders, relu": Layer(
        "MAX_POOL_2D",
        "Pool2D",
        _window(padding=_SAME, filterHeight=2, filterWidth=4, strideW=3),
        (1, 5, 8, 3),
        (1, 5, 3, 3),
        version=2,
        activation=1,
    ),
    "mean of rows and columns": Layer("MEAN", "Reducer", {}, (1, 6, 5, 4), (1, 4), version=2, axes=(1, 2)),
    "mean of channels": Layer("MEAN", "Reducer", {}, (1, 7, 9), (1, 7), version=2, axes=(-1,)),
    "mean of 1000 values": Layer("MEAN", "Reducer", {}, (1, 1000, 3), (1, 3), version=2, axes=(1,)),
    "relu with another scale": Layer("RELU", "", {}, (1, 256), (1, 256), version=2),
    "quantise again": Layer("QUANTIZE", "Quantize", {}, (1, 256), (1, 256), version=2),
    "leaky relu": Layer("LEAKY_RELU", "LeakyRelu", {"alpha": 0.3}, (1, 256), (1, 256), version=2),
    "leaky relu, all but flat": Layer(
        "LEAKY_RELU", "LeakyRelu", {"alpha": 0.0001}, (1, 256), (1, 256), version=2, input_scale=0.1
    ),
    "sum of rows": Layer("SUM", "Reducer", {}, (1, 12, 9), (1, 9), version=2, axes=(1,)),
    "sigmoid": Layer("LOGISTIC", "", {}, (1, 256), (1, 256), version=2, output_scale=1 / 256, output_zero_point=-128),
    "tanh": Layer("TANH", "", {}, (1, 256), (1, 256), version=2, output_scale=1 / 128, output_zero_point=0),
    "softmax of rows": Layer(
        "SOFTMAX", "Softmax", {"beta": 1.0}, (3, 10), (3, 10), version=2, output_scale=1 / 256, output_zero_point=-128
    ),
    "gentle softmax": Layer(
        "SOFTMAX",
        "Softmax",
        {"beta": 0.5},
        (20, 10),
        (20, 10),
        version=2,
        output_scale=1 / 256,
        output_zero_point=-128,
        input_scale=0.005,
    ),
    "steep softmax": Layer(
        "SOFTMAX",
        "Softmax",
        {"beta": 1.0},
        (1, 200),
        (1, 200),
        version=2,
        output_scale=1 / 256,
        output_zero_point=-128,
        input_scale=0.9,
    ),
}


def _pointwise(channels: int, outputs: int, height: int = 3, width: int = 3) -> Layer:
    shape = (1, height, width)
    return Layer("CONV_2D", "Conv2D", _window(), (*shape, channels), (*shape, outputs), (outputs, 1, 1, channels))


def _depthwise(  # noqa: PLR0917 - a shape has as many sizes
    channels: int, height: int, width: int, stride: int = 1, padding: int = _SAME, multiplier: int = 1
) -> Layer:
    size = [-(-length // stride) if padding == _SAME else (length - 3) // stride + 1 for length in (height, width)]
    window = _window(padding=padding, depthMultiplier=multiplier, strideH=stride, strideW=stride)
    made = channels * multiplier
    return Layer(
        "DEPTHWISE_CONV_2D", "DepthwiseConv2D", window, (1, height, width, channels), (1, *size, made),
        (1, 3, 3, made), 3,
    )  # fmt: skip


def _sum(operator: str, options: str, operand: tuple[int, ...], **fields: Any) -> Layer:
    return Layer(operator, options, {}, (1, 5, 6, 3), (1, 5, 6, 3), version=2, operand=operand, **fields)


def _dense(rows: int, depth: int, units: int) -> Layer:
    return Layer("FULLY_CONNECTED", "FullyConnected", {"keepNumDims": True}, (1, rows, depth), (1, rows, units),
                 (units, depth), -1, version=5)  # fmt: skip


# Kernels take four pixels, two channels and four values at a time, and hold a window's values in chunks of 256.
_BLOCKS = {
    **{f"pointwise, {n} to {10 - n} channels": _pointwise(n, 10 - n) for n in (1, 2, 5, 7)},
    **{f"pointwise, {n} pixels": _pointwise(8, 6, 1, n) for n in (1, 2, 3, 5)},
    **{f"dense, {rows} rows of {depth}": _dense(rows, depth, 7) for rows, depth in ((1, 257), (2, 6), (5, 255))},
    "pointwise, more channels than a tile": _pointwise(12, 67),
    "pointwise, deeper than a chunk": _pointwise(516, 35, 2, 3),
    "window deeper than a chunk": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME), (1, 5, 5, 37), (1, 5, 5, 34), (34, 3, 3, 37)
    ),
    "a window's row longer than a chunk": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME, strideW=2), (1, 2, 9, 131), (1, 2, 5, 3), (3, 2, 5, 131)
    ),
    "groups deeper than a chunk": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME), (1, 4, 4, 66), (1, 4, 4, 6), (6, 3, 3, 33), version=6
    ),
    "groups whose window is larger than a row of all": Layer(
        "CONV_2D", "Conv2D", _window(), (1, 5, 5, 4), (1, 3, 4, 6), (6, 3, 2, 2), version=6
    ),
    "a row longer than 16 bits can say": _pointwise(1, 1, 1, 32_769),
    **{
        f"biases around {offset}": replace(
            _pointwise(40, 3), bias_offset=offset, output_scale=90.0, output_zero_point=-20, input_scale=0.1
        )
        for offset in (-(1 << 23), -(1 << 15), (1 << 15) - 1, (1 << 23) - 1)
    },
    "a scale far from the others": replace(_pointwise(12, 5), first_scale=0.0001),
    "a depthwise scale far from the others": replace(_depthwise(4, 5, 6), first_scale=0.3),
    "groups of one": Layer(
        "CONV_2D", "Conv2D", _window(padding=_SAME), (1, 4, 5, 6), (1, 4, 5, 6), (6, 3, 3, 1), version=6
    ),
    **{f"depthwise 3x3, {n} wide": _depthwise(3, 4, n) for n in (1, 2, 3, 6)},
    **{f"depthwise 3x3, stride 2, {n} wide": _depthwise(3, n + 1, n, 2) for n in (2, 5, 6)},
    "depthwise 3x3, valid": _depthwise(5, 5, 6, padding=_VALID),
    "depthwise 3x3, valid, stride 3": _depthwise(2, 9, 11, 3, _VALID),
    "depthwise 3x3, a multiplier": _depthwise(3, 5, 5, multiplier=3),
    "depthwise 3x3, more rows than a tile": _depthwise(2, 31, 6),
    "depthwise 3x3, more columns than a tile": _depthwise(1, 3, 131),
    "depthwise 3x3, more columns than a tile, stride 2": _depthwise(1, 5, 253, 2),
    "add, the other scale larger": _sum("ADD", "Add", (1, 5, 6, 3), input_scale=0.013),
    "add, equal scales": _sum("ADD", "Add", (1, 5, 6, 3), input_scale=0.25, operand_scale=0.25),
    "add a channel's constant": _sum("ADD", "Add", (3,), input_scale=0.2),
    "add one value, relu": _sum("ADD", "Add", (1,), input_scale=0.2, activation=1),
    "add to a fine scale": _sum("ADD", "Add", (6, 3), input_scale=0.02, operand_scale=0.019, output_scale=0.004),
    "subtract, the other scale larger": _sum("SUB", "Sub", (1, 5, 6, 3), input_scale=0.013),
    "depthwise 3x3, strides apart": Layer(
        "DEPTHWISE_CONV_2D", "DepthwiseConv2D", _window(padding=_SAME, depthMultiplier=1, strideH=1, strideW=5),
        (1, 5, 17, 2), (1, 5, 4, 2), (1, 3, 3, 2), 3, version=3,
    ),
}  # fmt: skip
_LAYERS |= _BLOCKS


class _Maker:
    """Collects tensors, and packs them with one operator."""

    def __init__(self) -> None:
        self.buffers: list[Any] = [schema.BufferT()]
        self.tensors: list[Any] = []

    def activation(self, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        return self._add(schema.TensorType.INT8, shape, 0, [scale], [zero_point])

    def constant(self, values: NDArray[np.generic], scales: list[float], axis: int = 0) -> int:
        self.buffers.append(schema.BufferT())
        self.buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        kind = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
        made = self._add(kind, values.shape, len(self.buffers) - 1, scales, [0] * len(scales))
        if scales:
            self.tensors[made].quantization.quantizedDimension = axis
        return made

    def _add(self, kind: int, shape: tuple[int, ...], buffer: int, scales: list[float], zeros: list[int]) -> int:
        made = schema.TensorT()
        made.shape, made.type, made.buffer, made.name = list(shape), kind, buffer, f"t{len(self.tensors)}".encode()
        if scales:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = scales, zeros
        self.tensors.append(made)
        return len(self.tensors) - 1

    def pack(self, layer: Layer, inputs: list[int], output: int) -> bytes:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, layer.operator)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), layer.version
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        if layer.options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{layer.options}Options")
            operator.builtinOptions = getattr(schema, f"{layer.options}OptionsT")()
            for name, value in layer.fields.items():
                setattr(operator.builtinOptions, name, value)
            if layer.activation:
                operator.builtinOptions.fusedActivationFunction = layer.activation
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self.tensors, [operator]
        subgraph.inputs, subgraph.outputs = [0], [output]
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [subgraph], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _model(layer: Layer, rng: np.random.Generator, *, extreme: bool = False) -> bytes:
    """Return the layer as a model; an extreme one has weights of -128 alone, and outputs that they do not saturate."""
    maker = _Maker()
    input_scale = layer.input_scale or float(np.float32(rng.uniform(0.01, 0.2)))
    input_zero = int(rng.integers(-128, 128))
    inputs = [maker.activation(layer.input, input_scale, input_zero)]
    if layer.weights:
        channels = layer.output[-1]
        scales = [
            float(x) for x in rng.uniform(0.002, 0.02, 1 if layer.scale_axis < 0 else channels).astype(np.float32)
        ]
        if layer.first_scale:
            scales[0] = float(np.float32(layer.first_scale))
        weights = rng.integers(-127, 128, layer.weights).astype(np.int8)
        if extreme:
            weights = np.full(layer.weights, -128, np.int8)
        inputs.append(maker.constant(weights, scales, max(layer.scale_axis, 0)))
        bias = (rng.integers(-2000, 2000, channels) + layer.bias_offset).astype(np.int32)
        inputs.append(maker.constant(bias, [input_scale * scale for scale in scales]) if layer.bias else -1)
    if layer.operand:
        inputs.append(maker.constant(rng.integers(-128, 128, layer.operand).astype(np.int8), [layer.operand_scale]))
    if layer.axes:
        inputs.append(maker.constant(np.array(layer.axes, np.int32), []))
    scale = layer.output_scale or float(np.float32(rng.uniform(0.05, 0.3)))
    zero = int(rng.integers(-128, 100)) if layer.output_zero_point is None else layer.output_zero_point
    if layer.operator.endswith("POOL_2D"):
        scale, zero = input_scale, input_zero
    return maker.pack(layer, inputs, maker.activation(layer.output, scale, zero))


def _rows(size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    yield np.resize(np.arange(-128, 128), size).astype(np.int8)
    yield np.full(size, 127, np.int8)
    for _ in range(_ROWS - 2):
        yield rng.integers(-128, 128, size).astype(np.int8)


@pytest.mark.parametrize("board", ["cortex-m4", "cortex-m0plus"])
@pytest.mark.parametrize(
    "name", ["pointwise, deeper than a chunk", "window deeper than a chunk", "dense, 1 rows of 257"]
)
def test_products_of_the_most_negative_values_do_not_overflow(
    name: str, board: str, make_image: Images, tflm: Reference
) -> None:
    rng = np.random.default_rng(7)
    layer = replace(_LAYERS[name], output_scale=9.0, output_zero_point=-100, input_scale=0.05)
    model = _model(layer, rng, extreme=True)
    size = int(np.prod(layer.input))
    rows = np.stack([np.full(size, -128), np.full(size, 127), rng.choice([-128, 127], size)]).astype(np.int8)
    emulated = boot_unicorn(make_image(model, board), image_board(board))
    assert [emulated.infer(row.tobytes()).output for row in rows] == tflm(model, rows)


@pytest.mark.parametrize(
    "name",
    [
        "pointwise, 7 to 3 channels",
        "pointwise, more channels than a tile",
        "window deeper than a chunk",
        "groups deeper than a chunk",
        "groups of one",
        "dense, 5 rows of 255",
        "conv same, odd stride",
        "conv dilated both ways",
        "depthwise 3x3, a multiplier",
    ],
)
def test_one_layer_matches_without_the_dsp_extension(name: str, make_image: Images, tflm: Reference) -> None:
    rng = np.random.default_rng(len(name))
    layer = _LAYERS[name]
    model = _model(layer, rng)
    row = rng.integers(-128, 128, (1, int(np.prod(layer.input)))).astype(np.int8)
    board = boot_unicorn(make_image(model, "cortex-m0plus"), image_board("cortex-m0plus"))
    assert [board.infer(row[0].tobytes()).output] == tflm(model, row)


# LiteRT refuses an int8 convolution without bias.
_CASES = [
    (name, numerics)
    for name, layer in _LAYERS.items()
    for numerics in Numerics
    if layer.bias or numerics is Numerics.TFLM
]


@pytest.mark.parametrize(("name", "numerics"), _CASES)
def test_one_layer_matches(
    name: str, numerics: Numerics, make_image: Images, tflm: Reference, litert: Reference
) -> None:
    reference = {Numerics.TFLM: tflm, Numerics.LITERT: litert}[numerics]
    rng = np.random.default_rng(len(name))
    layer = _LAYERS[name]
    model = _model(layer, rng)
    rows = np.stack(list(_rows(int(np.prod(layer.input)), rng)))
    board = boot_unicorn(make_image(generate(model, numerics)), image_board("cortex-m4"))
    ours = [list(np.frombuffer(board.infer(row.tobytes()).output, np.int8)) for row in rows]
    theirs = [list(np.frombuffer(output, np.int8)) for output in reference(model, rows)]
    assert ours == theirs
    assert len({tuple(output) for output in theirs}) > 1
