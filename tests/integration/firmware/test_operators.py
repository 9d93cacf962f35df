"""Every operator beside those with weights, against both reference runtimes, on an emulated core.

One model holds many operators side by side, each with inputs and outputs of its own: one compilation for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import ModelTensor, UnsupportedModelError, generate
from shared.boards import image_board
from shared.emulation.on_unicorn import boot_unicorn
from shared.events.lab import Numerics
from tests.tflite_models import Model, Subgraph

Images = Callable[..., bytes]
Case = Callable[[Subgraph], int | list[int]]
Run = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]

_ROWS = 6
_FIRST_VERSION = frozenset({"HARD_SWISH", "ELU", "PRELU", "RELU_N1_TO_1"})
_RUNTIME = "tflite_micro.python.tflite_micro.runtime"


def _table(name: str, input_scale: float, input_zero: int, scale: float, zero: int, **options: Any) -> Case:
    """Run a function of one value over all 256 values."""

    def add(graph: Subgraph) -> int:
        made = graph.tensor((1, 256), scale, zero)
        table = str(options.get("options", ""))
        fields = {key: value for key, value in options.items() if key != "options"}
        version = 1 if name in _FIRST_VERSION else 2
        graph.operator(name, [graph.input((1, 256), input_scale, input_zero)], [made], table, version, **fields)
        return made

    return add


def _binary(
    name: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    scales: tuple[float, float, float] = (0.05, 0.03, 0.06),
    **kind: Any,
) -> Case:
    """Combine two tensors; `constant` makes the second one part of the model."""

    def add(graph: Subgraph) -> int:
        constant, zeros = kind.get("constant", False), kind.get("zeros", (3, -7, 5))
        left = graph.input(a, scales[0], zeros[0])
        values = np.random.default_rng(len(a)).integers(-128, 128, b).astype(np.int8)
        right = graph.constant(values, scales[1], zeros[1]) if constant else graph.input(b, scales[1], zeros[1])
        made = graph.tensor(np.broadcast_shapes(a, b), scales[2], zeros[2])
        options = name.title() if name in {"ADD", "SUB", "MUL"} else {"MAXIMUM": "MaximumMinimum"}.get(name, "")
        fields = {"fusedActivationFunction": kind["activation"]} if "activation" in kind else {}
        graph.operator(name, [left, right], [made], options, 1 if name in _FIRST_VERSION else 2, **fields)
        return made

    return add


def _same(
    name: str, shape: tuple[int, ...], constants: list[Any], made: tuple[int, ...], options: str = "", **fields: Any
) -> Case:
    """Move or choose values of one tensor: the scale stays."""

    def add(graph: Subgraph) -> int:
        output = graph.tensor(made, 0.1, 2)
        inputs = [graph.input(shape, 0.1, 2), *(graph.constant(np.array(values, np.int32)) for values in constants)]
        graph.operator(name, inputs, [output], options, **fields)
        return output

    return add


def _reduce(name: str, shape: tuple[int, ...], axes: tuple[int, ...], made: tuple[int, ...], scale: float) -> Case:
    def add(graph: Subgraph) -> int:
        output = graph.tensor(made, scale, -9)
        graph.operator(
            name, [graph.input(shape, 0.1, 4), graph.constant(np.array(axes, np.int32))], [output], "Reducer"
        )
        return output

    return add


def _arg(name: str, shape: tuple[int, ...], axis: int, made: tuple[int, ...]) -> Case:
    def add(graph: Subgraph) -> int:
        output = graph.tensor(made, dtype=np.int32)
        options = "ArgMax" if name == "ARG_MAX" else "ArgMin"
        graph.operator(name, [graph.input(shape), graph.constant(np.int32(axis))], [output], options, outputType=2)
        return output

    return add


def _join(name: str, parts: list[tuple[int, ...]], made: tuple[int, ...], axis: int, options: str) -> Case:
    """Join results of layers, an input and a constant."""

    def add(graph: Subgraph) -> int:
        inputs = []
        for number, shape in enumerate(parts):
            if number == 1:
                inputs.append(graph.constant(np.arange(np.prod(shape)).reshape(shape).astype(np.int8), 0.1, 2))
                continue
            source = graph.input(shape, 0.1, 2)
            if number % 2:
                inputs.append(source)
            else:
                inputs.append(graph.tensor(shape, 0.1, 2))
                graph.operator("RELU", [source], [inputs[-1]])
        output = graph.tensor(made, 0.1, 2)
        fields: dict[str, Any] = {"axis": axis}
        if name == "PACK":
            fields["valuesCount"] = len(parts)
        graph.operator(name, inputs, [output], options, **fields)
        return output

    return add


def _parts(name: str, shape: tuple[int, ...], made: list[tuple[int, ...]], axis: int, *, after_a_layer: bool) -> Case:
    """Take a tensor apart, and change each part so that the cut itself may be free."""

    def add(graph: Subgraph) -> list[int]:
        source = graph.input(shape, 0.1, 2)
        if after_a_layer:
            layer = graph.tensor(shape, 0.1, 2)
            graph.operator("RELU", [source], [layer])
            source = layer
        outputs = [graph.tensor(part, 0.1, 2) for part in made]
        where = graph.constant(np.int32(axis))
        if name == "SPLIT":
            graph.operator(name, [where, source], outputs, "Split", numSplits=len(made))
        elif name == "SPLIT_V":
            sizes = graph.constant(np.array([part[axis] for part in made], np.int32))
            graph.operator(name, [source, sizes, where], outputs, "SplitV", numSplits=len(made))
        else:
            graph.operator(name, [source], outputs, "Unpack", num=len(made), axis=axis)
        changed = [graph.tensor(part, 0.2, -2) for part in made]
        for before, after in zip(outputs, changed, strict=True):
            graph.operator("QUANTIZE", [before], [after])
        return [*changed, *outputs[-1:]]

    return add


def _convert(source: Any, made: Any, input_zero: int = 0, zero: int = 0) -> Case:
    def add(graph: Subgraph) -> int:
        floats = np.dtype(source) == np.float32
        entry = graph.input((1, 256), None if floats else 0.04, input_zero, dtype=source)
        to_float = np.dtype(made) == np.float32
        output = graph.tensor((1, 256), None if to_float else 0.031, zero, dtype=made)
        graph.operator("DEQUANTIZE" if to_float else "QUANTIZE", [entry], [output])
        return output

    return add


def _slice(
    shape: tuple[int, ...], begin: list[int], end: list[int], steps: list[int], made: tuple[int, ...], **masks: int
) -> Case:
    return _same("STRIDED_SLICE", shape, [begin, end, steps], made, "StridedSlice", **masks)


def _product(a: tuple[int, ...], b: tuple[int, ...], *, constant: bool = False, **flips: Any) -> Case:
    """Multiply matrices; `flips` transpose one of them."""

    def add(graph: Subgraph) -> int:
        left = graph.input(a, 0.05, 3)
        values = np.random.default_rng(5).integers(-128, 128, b).astype(np.int8)
        right = graph.constant(values, 0.03, -7) if constant else graph.input(b, 0.03, -7)
        rows, columns = (a[-1] if flips.get("adjX") else a[-2]), (b[-2] if flips.get("adjY") else b[-1])
        made = graph.tensor((*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns), 0.4, 5)
        graph.operator("BATCH_MATMUL", [left, right], [made], "BatchMatMul", **flips)
        return made

    return add


_TABLES: Mapping[str, Case] = {
    "relu": _table("RELU", 0.05, -20, 0.03, -100),
    "relu6": _table("RELU6", 0.05, -128, 0.05, -128),
    "leaky": _table("LEAKY_RELU", 0.05, 4, 0.07, -3, options="LeakyRelu", alpha=0.3),
    "sigmoid": _table("LOGISTIC", 0.07, 5, 1 / 256, -128),
    "tanh": _table("TANH", 0.03, -5, 1 / 128, 0),
    "hard swish": _table("HARD_SWISH", 0.05, 3, 0.04, -110),
    "hard swish, wide": _table("HARD_SWISH", 0.4, -30, 0.3, 7),
    "hard swish, narrow": _table("HARD_SWISH", 0.004, -128, 0.003, -128),
    "elu": _table("ELU", 0.04, 10, 0.035, -90),
    "abs": _table("ABS", 0.04, 10, 0.04, -120),
    "abs, another scale": _table("ABS", 0.04, 10, 0.02, -128),
    "quantise": _table("QUANTIZE", 0.04, 10, 0.05, -12),
    "quantise, finer": _table("QUANTIZE", 0.04, 10, 0.0003, -12),
    "mean": _reduce("MEAN", (1, 4, 5, 6), (1, 2), (1, 6), 0.02),
    "sum": _reduce("SUM", (1, 4, 5, 6), (1, 2), (1, 6), 0.9),
    "sum of channels": _reduce("SUM", (1, 4, 5, 6), (-1,), (1, 4, 5), 0.4),
    "largest": _same("REDUCE_MAX", (1, 4, 5, 6), [[1, 2]], (1, 6), "Reducer"),
    "smallest": _same("REDUCE_MIN", (1, 4, 5, 6), [[3]], (1, 4, 5), "Reducer"),
    "arg max": _arg("ARG_MAX", (1, 37), 1, (1,)),
    "arg max of channels": _arg("ARG_MAX", (1, 5, 4, 7), -1, (1, 5, 4)),
    "arg min of rows": _arg("ARG_MIN", (1, 5, 4, 3), 1, (1, 4, 3)),
}

_ELEMENTWISE: Mapping[str, Case] = {
    "add": _binary("ADD", (1, 4, 3, 5), (1, 4, 3, 5)),
    "add channels": _binary("ADD", (1, 4, 3, 5), (5,)),
    "add pixels": _binary("ADD", (1, 4, 3, 5), (1, 4, 3, 1)),
    "add to a constant column": _binary("ADD", (1, 4, 3, 5), (1, 4, 1, 1), constant=True),
    "add a scalar": _binary("ADD", (1, 4, 3, 5), (), constant=True),
    "subtract": _binary("SUB", (1, 4, 3, 5), (1, 1, 3, 1), activation=1),
    "subtract from few": _binary("SUB", (1, 1, 1, 5), (1, 4, 3, 5)),
    "multiply": _binary("MUL", (1, 4, 3, 5), (1, 4, 3, 5), (0.05, 0.03, 0.05)),
    "multiply channels": _binary("MUL", (1, 4, 3, 5), (1, 1, 1, 5), activation=3),
    "multiply pixels by constants": _binary("MUL", (1, 4, 3, 5), (4, 3, 1), constant=True),
    "maximum": _binary("MAXIMUM", (1, 4, 3, 5), (1, 4, 3, 5), (0.1, 0.1, 0.1), zeros=(2, 2, 2)),
    "minimum of channels": _binary("MINIMUM", (1, 4, 3, 5), (5,), (0.1, 0.1, 0.1), zeros=(2, 2, 2), constant=True),
    "minimum of pixels": _binary("MINIMUM", (1, 4, 3, 5), (4, 1, 1), (0.1, 0.1, 0.1), zeros=(2, 2, 2)),
    "product": _product((1, 4, 5), (1, 5, 6)),
    "product of transposed batches": _product((2, 3, 5, 4), (3, 6, 5), adjX=True, adjY=True),
    "product with a constant": _product((3, 4, 5), (5, 6), constant=True),
    "prelu": _binary("PRELU", (1, 4, 3, 5), (1, 1, 5), (0.05, 0.01, 0.03), constant=True),
    "prelu of pixels": _binary("PRELU", (1, 4, 3, 5), (4, 3, 1), (0.05, 0.01, 0.03), constant=True),
}

_MOVED: Mapping[str, Case] = {
    "transpose": _same("TRANSPOSE", (2, 3, 4, 5), [[3, 0, 2, 1]], (5, 2, 4, 3), "Transpose"),
    "transpose of two": _same("TRANSPOSE", (7, 9), [[1, 0]], (9, 7), "Transpose"),
    "transpose that moves nothing": _same("TRANSPOSE", (1, 3, 1, 5), [[1, 0, 3, 2]], (3, 1, 5, 1), "Transpose"),
    "slice": _same("SLICE", (1, 6, 5, 4), [[0, 1, 2, 0], [1, 3, -1, 2]], (1, 3, 3, 2), "Slice"),
    "slice of rows": _same("SLICE", (1, 6, 4), [[0, 2, 0], [1, 3, 4]], (1, 3, 4), "Slice"),
    "strided slice": _slice((1, 7, 8, 3), [0, 1, 0, 0], [1, 7, 8, 3], [1, 2, 3, 1], (1, 3, 3, 3)),
    "strided slice backwards": _slice((1, 7, 3), [0, -1, 0], [1, -8, 3], [1, -1, 1], (1, 7, 3), endMask=2),
    "strided slice that drops an axis": _slice(
        (1, 7, 3), [0, -2, 0], [0, 0, 0], [1, 1, 1], (1, 3), beginMask=5, endMask=5, shrinkAxisMask=2
    ),
    "broadcast": _same("BROADCAST_TO", (1, 3, 1), [[2, 3, 4]], (2, 3, 4), "BroadcastTo"),
    "reverse": _same("REVERSE_V2", (1, 4, 5, 3), [[1]], (1, 4, 5, 3), "ReverseV2"),
    "space to depth": _same("SPACE_TO_DEPTH", (1, 4, 6, 3), [], (1, 2, 3, 12), "SpaceToDepth", blockSize=2),
    "depth to space": _same("DEPTH_TO_SPACE", (1, 2, 3, 12), [], (1, 4, 6, 3), "DepthToSpace", blockSize=2),
    "reflect": _same("MIRROR_PAD", (1, 4, 5, 3), [[[0, 0], [2, 1], [1, 3], [0, 0]]], (1, 7, 9, 3), "MirrorPad", mode=0),
    "repeat the border": _same(
        "MIRROR_PAD", (1, 4, 5, 3), [[[0, 0], [2, 4], [0, 5], [1, 0]]], (1, 10, 10, 4), "MirrorPad", mode=1
    ),
    "pad": _same("PAD", (1, 4, 5, 3), [[[0, 0], [2, 1], [0, 3], [1, 0]]], (1, 7, 8, 4), "Pad"),
    "resize": _same("RESIZE_NEAREST_NEIGHBOR", (1, 3, 4, 5), [[7, 8]], (1, 7, 8, 5), "ResizeNearestNeighbor"),
    "resize from corners": _same(
        "RESIZE_NEAREST_NEIGHBOR", (1, 3, 4, 5), [[7, 2]], (1, 7, 2, 5), "ResizeNearestNeighbor", alignCorners=True
    ),
    "resize from centres": _same(
        "RESIZE_NEAREST_NEIGHBOR", (1, 5, 4, 2), [[3, 9]], (1, 3, 9, 2), "ResizeNearestNeighbor", halfPixelCenters=True
    ),
    "gather": _same("GATHER", (1, 5, 4), [[3, 0, 3, 4]], (1, 4, 4), "Gather", axis=1),
    "gather in steps": _same("GATHER", (2, 3, 9), [[8, 6, 4]], (2, 3, 3), "Gather", axis=-1),
    "gather one": _same("GATHER", (1, 5, 4), [3], (1, 4), "Gather", axis=1),
    "space to batch": _same("SPACE_TO_BATCH_ND", (1, 4, 6, 3), [[2, 3], [[0, 0]] * 2], (6, 2, 2, 3), "SpaceToBatchND"),
    "space to batch of a series": _same("SPACE_TO_BATCH_ND", (2, 4, 3), [[2], [[0, 0]]], (4, 2, 3), "SpaceToBatchND"),
    "batch to space": _same("BATCH_TO_SPACE_ND", (6, 2, 2, 3), [[2, 3], [[0, 0]] * 2], (1, 4, 6, 3), "BatchToSpaceND"),
    "batch to space, cut": _same(
        "BATCH_TO_SPACE_ND", (6, 2, 2, 3), [[2, 3], [[1, 0], [0, 2]]], (1, 3, 4, 3), "BatchToSpaceND"
    ),
    "resize, interpolated": _same("RESIZE_BILINEAR", (1, 3, 4, 5), [[7, 9]], (1, 7, 9, 5), "ResizeBilinear"),
    "resize to less, interpolated": _same("RESIZE_BILINEAR", (1, 9, 8, 2), [[4, 3]], (1, 4, 3, 2), "ResizeBilinear"),
    "resize from corners, interpolated": _same(
        "RESIZE_BILINEAR", (1, 3, 4, 5), [[7, 2]], (1, 7, 2, 5), "ResizeBilinear", alignCorners=True
    ),
    "resize from centres, interpolated": _same(
        "RESIZE_BILINEAR", (1, 5, 4, 2), [[3, 9]], (1, 3, 9, 2), "ResizeBilinear", halfPixelCenters=True
    ),
    "concatenate channels": _join(
        "CONCATENATION", [(1, 3, 4), (1, 3, 2), (1, 3, 5), (1, 3, 1)], (1, 3, 12), 2, "Concatenation"
    ),
    "concatenate rows": _join(
        "CONCATENATION", [(1, 4, 4), (1, 2, 4), (1, 3, 4), (1, 1, 4), (1, 5, 4)], (1, 15, 4), 1, "Concatenation"
    ),
    "pack": _join("PACK", [(3, 4)] * 4, (3, 4, 4), -1, "Pack"),
    "pack in front": _join("PACK", [(3, 4)] * 3, (3, 3, 4), 0, "Pack"),
    "split channels": _parts("SPLIT", (1, 4, 6), [(1, 4, 2)] * 3, 2, after_a_layer=True),
    "split rows": _parts("SPLIT", (1, 6, 4), [(1, 2, 4)] * 3, 1, after_a_layer=True),
    "split an input": _parts("SPLIT_V", (1, 6, 3), [(1, 1, 3), (1, 3, 3), (1, 2, 3)], 1, after_a_layer=False),
    "unpack": _parts("UNPACK", (3, 4, 5), [(3, 5)] * 4, 1, after_a_layer=False),
    "unpack in front": _parts("UNPACK", (3, 8), [(8,)] * 3, 0, after_a_layer=True),
}

_EDGES: Mapping[str, Case] = {
    "float to int8": _convert(np.float32, np.int8, zero=-7),
    "float to int16": _convert(np.float32, np.int16),
    "int8 to float": _convert(np.int8, np.float32, 5),
    "uint8 to float": _convert(np.uint8, np.float32, 130),
    "int16 to float": _convert(np.int16, np.float32),
    "uint8 to int8": _convert(np.uint8, np.int8, 128, 3),
    "int8 to uint8": _convert(np.int8, np.uint8, -5, 120),
    "int16 to int8": _convert(np.int16, np.int8, 0, 11),
    "int8 to int16": _convert(np.int8, np.int16, 11),
}

# What TFLM's package lacks, and so only LiteRT can be asked.
_LITERT_ALONE: Mapping[str, Case] = {
    "relu -1 to 1": _table("RELU_N1_TO_1", 0.02, 3, 0.02, 3),
    "relu -1 to 1, another scale": _table("RELU_N1_TO_1", 0.03, 3, 0.01, -20),
}
# What LiteRT computes in a third way, and the generator refuses for it.
_TFLM_ALONE = frozenset(
    {"product", "product of transposed batches", "product with a constant"}
    | {f"resize{how}, interpolated" for how in ("", " to less", " from corners", " from centres")}
    | {"quantise, finer", "float to int16", "uint8 to int8", "int8 to uint8", "int16 to int8", "int8 to int16"}
)

_GROUPS = {"tables": _TABLES, "elementwise": _ELEMENTWISE, "moved": _MOVED, "edges": _EDGES}


def _cases(group: str, numerics: Numerics) -> Mapping[str, Case]:
    if numerics is Numerics.TFLM:
        return _GROUPS[group]
    common = {name: case for name, case in _GROUPS[group].items() if name not in _TFLM_ALONE}
    return {**common, **_LITERT_ALONE} if group == "tables" else common


def _tflm(data: bytes, outputs: int) -> Run:
    runtime = pytest.importorskip(_RUNTIME, reason="tflite-micro is published for x86_64 Linux only")
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=1 << 20)

    def run(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        for number, values in enumerate(inputs):
            interpreter.set_input(values, number)
        interpreter.invoke()
        return [interpreter.get_output(number) for number in range(outputs)]

    return run


def _litert(data: bytes) -> Run:
    runtime = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install 'edgeloop[validators]' gets LiteRT")
    interpreter = runtime.Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()

    def run(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        for details, values in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(details["index"], values)
        interpreter.invoke()
        return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]

    return run


def _values(entry: ModelTensor, row: int, rng: np.random.Generator) -> NDArray[Any]:
    shape, dtype = entry.shape, np.dtype(entry.type.value)
    size = int(np.prod(shape))
    if dtype == np.float32:
        spread = rng.normal(0, 10.0 ** (row - 2), size)
        return (
            np.where(np.arange(size) % 7 == 0, (np.arange(size) - 128.5) * 0.031, spread).astype(dtype).reshape(shape)
        )
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if row == 0:
        return np.linspace(low, high, size).astype(dtype).reshape(shape)
    if row <= 2:
        return np.full(shape, (low, high)[row - 1], dtype)
    return rng.integers(low, high + 1, shape).astype(dtype)


def _compare(
    data: bytes, names: Sequence[str], reference: Run, make_image: Images, *, core: str, numerics: Numerics
) -> None:
    """Compare all outputs of a model; `names` are what messages call them."""
    generated = generate(data, numerics)
    board = boot_unicorn(make_image(generated, core), image_board(core))
    rng = np.random.default_rng(len(names))
    seen = set()
    for row in range(_ROWS):
        tensor = bytearray(generated.input_bytes)
        inputs = [_values(entry, row, rng) for entry in generated.inputs]
        for entry, values in zip(generated.inputs, inputs, strict=True):
            tensor[entry.offset_bytes : entry.offset_bytes + entry.size_bytes] = values.tobytes()
        output = board.infer(bytes(tensor)).output
        answers = reference(inputs)
        for number, (name, leave, theirs) in enumerate(zip(names, generated.outputs, answers, strict=True)):
            ours = np.frombuffer(output, theirs.dtype, theirs.size, leave.offset_bytes)
            np.testing.assert_array_equal(ours, theirs.ravel(), err_msg=f"{name}, row {row}")
            seen.add((number, theirs.tobytes()))
    assert len(seen) > 2 * len(names), "hardly any output depends on its input"


@pytest.mark.parametrize("group", _GROUPS)
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
@pytest.mark.parametrize("numerics", Numerics)
def test_operators_match(group: str, core: str, numerics: Numerics, make_image: Images) -> None:
    model, names = Model(), []
    for name, case in _cases(group, numerics).items():
        made = case(model.main)
        outputs = made if isinstance(made, list) else [made]
        model.main.outputs.extend(outputs)
        names.extend([name] * len(outputs))
    data = model.pack()
    reference = _litert(data) if numerics is Numerics.LITERT else _tflm(data, len(names))
    _compare(data, names, reference, make_image, core=core, numerics=numerics)


@pytest.mark.parametrize(("name", "outputs"), [("two_inputs", 2), ("float_edges", 1)])
def test_models_with_other_ends_than_one_int8_tensor_match(
    name: str, outputs: int, models: Path, make_image: Images
) -> None:
    data = (models / f"{name}.tflite").read_bytes()
    names = [f"output {number}" for number in range(outputs)]
    _compare(data, names, _tflm(data, outputs), make_image, core="cortex-m4", numerics=Numerics.TFLM)


def test_padding_before_blocks_are_taken_apart_matches_litert_and_is_refused_for_tflm(make_image: Images) -> None:
    model = Model()
    source, made = model.main.input((1, 5, 4, 3), 0.1, 2), model.main.tensor((6, 3, 2, 3), 0.1, 2)
    constants = [model.main.constant(np.array(values, np.int32)) for values in ([2, 3], [[1, 0], [0, 2]])]
    model.main.operator("SPACE_TO_BATCH_ND", [source, *constants], [made], "SpaceToBatchND")
    model.main.outputs.append(made)
    data = model.pack()
    _compare(data, ["padded"], _litert(data), make_image, core="cortex-m4", numerics=Numerics.LITERT)
    with pytest.raises(UnsupportedModelError, match=r"SPACE_TO_BATCH_ND.*input_0.*Pad by a layer"):
        generate(data)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("product", r"BATCH_MATMUL.*tflm alone, and litert is asked for\. .*multiply by constant weights"),
        (
            "resize, interpolated",
            r"RESIZE_BILINEAR.*tflm alone, and litert is asked for, where XNNPACK weighs otherwise",
        ),
    ],
)
def test_what_litert_computes_by_other_steps_is_refused_by_name(name: str, says: str) -> None:
    model = Model()
    model.main.outputs.append({**_ELEMENTWISE, **_MOVED}[name](model.main))  # type: ignore[arg-type] # one output
    with pytest.raises(UnsupportedModelError, match=says):
        generate(model.pack(), Numerics.LITERT)


@pytest.mark.parametrize("name", _LITERT_ALONE)
def test_what_tflm_lacks_is_refused_by_name(name: str) -> None:
    model = Model()
    model.main.outputs.append(_LITERT_ALONE[name](model.main))  # type: ignore[arg-type] # one output
    with pytest.raises(UnsupportedModelError, match=r"RELU_N1_TO_1.*tflm.* no such operator.*numerics litert"):
        generate(model.pack())
