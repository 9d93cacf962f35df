"""What the generator makes of models, good and bad."""

import contextlib
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError, generate
from tests.tflite_models import Model

_MODELS = Path(__file__).parents[2] / "data" / "models"
_MLPERF = Path(__file__).parents[4] / "shared" / "data" / "mlperf_tiny" / "models"
_SUPPORTED = sorted(path.stem for path in _MODELS.glob("*.tflite"))
_FUZZED_MODELS = ("cnn_1d", "dilated_1d", "dense", "grouped_2d")
_MUTATIONS_PER_MODEL = 150


def _read(name: str) -> bytes:
    return (_MODELS / f"{name}.tflite").read_bytes()


@pytest.mark.parametrize("name", _SUPPORTED)
def test_the_same_model_gives_the_same_sources(name: str) -> None:
    assert generate(_read(name)) == generate(_read(name))


def test_the_facts_of_a_model_are_those_of_its_graph() -> None:
    model = generate(_read("cnn_1d"))
    assert (model.input_bytes, model.output_bytes, model.layers) == (600, 7, 7)
    assert model.macs == 96 * 16 * 5 * 6 + 48 * 24 * 5 * 16 + 24 * 24 * 3 * 24 + 24 * 7
    assert model.arena_bytes == 96 * 16 + 48 * 16
    assert (model.output.scale, model.output.zero_point) == (1 / 256, -128)
    assert model.weights_bytes > 5 * 6 * 16 + 5 * 16 * 24 + 3 * 24 * 24 + 24 * 7


def test_each_layer_is_one_function_named_after_the_graph() -> None:
    source = generate(_read("cnn_1d")).sources["model.c"]
    body = source.split("void model_invoke(void)")[1].split("}")[0]
    functions = re.findall(r"^ +(\w+)\(\);", body, re.MULTILINE)
    defined = re.findall(r"^static void (\w+)\(void\)\n\{.*?^    (el_\w+)\(&layer, ", source, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in defined] == functions
    assert [kernel for _, kernel in defined] == [
        "el_conv2d",
        "el_max_pool2d",
        "el_conv2d",
        "el_conv2d",
        "el_mean",
        "el_conv2d",
        "el_softmax",
    ]
    assert all(re.fullmatch(r"layer_\d\d_[a-z0-9_]+", name) for name in functions)
    assert "conv1d" in functions[0]
    assert "/* CONV_2D: 1x1x100x6 to 1x1x96x16, 46,080 multiply-accumulates. */" in source


def test_a_free_batch_costs_nothing_more_than_a_batch_of_one() -> None:
    assert generate(_read("free_batch")).layers == generate(_read("cnn_1d")).layers


def test_an_unsupported_operator_is_named_with_its_tensor_and_what_to_do() -> None:
    model = Model()
    graph = model.main
    graph.outputs.append(graph.tensor((1, 4), 0.1, name="running_total"))
    graph.operator("CUMSUM", [graph.input((1, 4)), graph.constant(np.int32(1))], graph.outputs, "Cumsum", version=1)
    with pytest.raises(UnsupportedModelError) as caught:
        generate(model.pack())
    message = str(caught.value)
    assert "operator 0, CUMSUM version 1" in message
    assert "tensor 0 (running_total)" in message
    assert "supported are ABS, ADD, " in message
    assert "Replace the layer" in message


def test_several_inputs_and_outputs_are_described_where_they_lie() -> None:
    model = generate(_read("two_inputs"))
    assert [(end.shape, end.offset_bytes) for end in model.inputs] == [((1, 5), 0), ((1, 20, 3), 8)]
    assert model.input_bytes == 8 + 60
    assert len(model.outputs) == 2
    assert "MODEL_INPUT_BYTES 68u" in model.sources["model.h"]
    assert " * 8: int8 1x20x3, " in model.sources["model.h"]


def test_a_float_interface_is_called_one() -> None:
    model = generate(_read("float_edges"))
    assert [(end.type, end.quantisation) for end in (*model.inputs, *model.outputs)] == [("float32", None)] * 2
    assert (model.input_bytes, model.output_bytes) == (4 * 600, 4 * 7)
    assert "inputs=float32@0 outputs=float32@0" in model.sources["model.h"]


def test_joining_and_cutting_cost_nothing_where_bytes_stay_in_order() -> None:
    model = Model()
    graph = model.main
    halves = []
    for _ in range(2):
        halves.append(graph.tensor((1, 2, 4), 0.1))
        graph.operator("RELU", [graph.input((1, 2, 4))], halves[-1:])
    joined, cut = graph.tensor((1, 4, 4), 0.1), [graph.tensor((1, 1, 4), 0.1) for _ in range(4)]
    graph.operator("CONCATENATION", halves, [joined], "Concatenation", axis=1)
    graph.operator("SPLIT", [graph.constant(np.int32(1)), joined], cut, "Split", numSplits=4)
    graph.outputs.append(graph.tensor((1, 1, 4), 0.2))
    graph.operator("ADD", cut[1:3], graph.outputs, "Add")
    generated = generate(model.pack())
    assert generated.operators == ("ADD", "RELU")
    assert generated.layers == 3


def test_weights_that_several_layers_share_are_stored_once() -> None:
    model = generate(_read("lstm"))
    names = re.findall(r"^const int8_t (\w+_weights)\[", model.sources["weights.c"], re.MULTILINE)
    assert len(names) < model.sources["model.c"].count("el_conv2d(")


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 100, b"\x08\0\0\0TFL3", b"PK\3\4" + b"x" * 100])
def test_other_bytes_are_no_model(data: bytes) -> None:
    with pytest.raises(MalformedModelError):
        generate(data)


def test_every_truncation_is_refused_or_harmless() -> None:
    data = _read("dense")
    for size in range(0, len(data), 37):
        with pytest.raises((MalformedModelError, UnsupportedModelError)):
            generate(data[:size])


@pytest.mark.parametrize("name", _FUZZED_MODELS)
def test_corrupt_models_get_one_of_two_errors_and_quickly(name: str) -> None:
    original = _read(name)
    rng = random.Random(name)
    slowest_s = 0.0
    for _ in range(_MUTATIONS_PER_MODEL):
        data = bytearray(original)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            at = rng.randrange(len(data))
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        begin = time.process_time()
        with contextlib.suppress(MalformedModelError, UnsupportedModelError):
            generate(bytes(data))
        slowest_s = max(slowest_s, time.process_time() - begin)
    assert slowest_s < 2.0


@pytest.mark.parametrize(
    ("file", "arena_bytes", "macs"),
    [
        ("kws_ref_model", 16_000, 2_656_768),
        ("vww_96_int8", 73_728, 7_489_664),
        ("pretrainedResnet_quant", 49_152, 12_501_632),
    ],
)
def test_arenas_of_mlperf_tiny_are_no_larger_than_the_reference(file: str, arena_bytes: int, macs: int) -> None:
    path = _MLPERF / f"{file}.tflite"
    if not path.exists():
        pytest.skip(
            f"{path.name} is absent; get it from github.com/mlcommons/tiny into ../shared/data/mlperf_tiny/models"
        )
    model = generate(path.read_bytes())
    assert model.arena_bytes <= arena_bytes
    assert model.macs == macs
