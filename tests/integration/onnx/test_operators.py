"""Each operator against onnxruntime, over shapes, attributes and opsets."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.integration.onnx.conftest import assert_converts, model_of

few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def normal(*shape: int, seed: int = 3) -> Any:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Abs", {}),
        ("Elu", {}),
        ("Exp", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6}),
        ("HardSwish", {}),
        ("Identity", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("Neg", {}),
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Erf", {}),
        ("Cast", {"to": 1}),
        ("Dropout", {}),
        ("Softmax", {"axis": 1}),
        ("Softmax", {}),
        ("LogSoftmax", {"axis": 1}),
        ("GlobalAveragePool", {}),
        ("GlobalMaxPool", {}),
        ("Flatten", {}),
        ("Flatten", {"axis": 3}),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
        ("Transpose", {}),
        ("ReduceMean", {"axes": [2, 3]}),
        ("ReduceMean", {"axes": [-1], "keepdims": 0}),
        ("ReduceMax", {"axes": [1], "keepdims": 0}),
        ("ReduceMin", {"axes": [1, 2]}),
        ("BatchNormalization", {}),
    ],
)
def test_an_operator_of_one_tensor(operator: str, attributes: dict[str, Any]) -> None:
    weights = {}
    inputs = ["x"]
    if operator == "BatchNormalization":
        weights = {name: abs(normal(3, seed=seed)) + 0.1 for seed, name in enumerate("sbmv")}
        inputs += list("sbmv")
    model = model_of([helper.make_node(operator, inputs, ["y"], **attributes)], ["batch", 3, 5, 4], weights)
    for channels_last in (False, True):
        assert_converts(model, normal(1, 3, 5, 4), channels_last=channels_last)


@pytest.mark.parametrize(("low", "high"), [(0, 6), (0, None), (-1, 1), (None, 2), (-0.5, None), (0, 3)])
def test_clip_in_old_and_new_opsets(low: float | None, high: float | None) -> None:
    bounds: dict[str, Any] = {name: float(value) for name, value in (("min", low), ("max", high)) if value is not None}
    old = model_of([helper.make_node("Clip", ["x"], ["y"], **bounds)], [1, 9], opset=9)
    assert_converts(old, normal(1, 9) * 5)
    names = [name if name in bounds else "" for name in ("min", "max")]
    new = model_of(
        [helper.make_node("Clip", ["x", *names], ["y"])], [1, 9], {k: np.float32(v) for k, v in bounds.items()}
    )
    assert_converts(new, normal(1, 9) * 5)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1, 1), (1, 3, 5, 4), (5, 1), (2, 1, 3, 5, 4)])
def test_arithmetic_with_a_constant_broadcasts_as_onnx_does(operator: str, shape: tuple[int, ...]) -> None:
    constant = abs(normal(*shape)) + np.float32(0.5)
    for inputs in (["x", "c"], ["c", "x"]):
        model = model_of([helper.make_node(operator, inputs, ["y"])], [1, 3, 5, 4], {"c": constant})
        assert_converts(model, abs(normal(1, 3, 5, 4)) + np.float32(0.5), channels_last=True)


def test_arithmetic_of_two_activations_aligns_their_memory() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3]),
        helper.make_node("Mul", ["x", "m"], ["scaled"]),
        helper.make_node("Add", ["scaled", "r"], ["y"]),
    ]
    assert_converts(model_of(nodes, [1, 3, 4, 4]), normal(1, 3, 4, 4), channels_last=True)


@few
@given(
    size=st.integers(8, 14),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    before=st.integers(0, 2),
    after=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_convolution_in_one_dimension(
    *, size: int, kernel: int, stride: int, before: int, after: int, dilation: int, groups: int, bias: bool
) -> None:
    if stride > 1 and dilation > 1:
        dilation = 1  # TensorFlow on a processor computes no stride together with a dilation
    weights = {"w": normal(8, 4 // groups, kernel), "b": normal(8)}
    node = helper.make_node(
        "Conv",
        ["x", "w", *(["b"] if bias else [])],
        ["y"],
        strides=[stride],
        pads=[before, after],
        dilations=[dilation],
        group=groups,
    )
    kinds = assert_converts(model_of([node], [1, 4, size], weights), normal(1, 4, size), channels_last=True)
    assert kinds.count("Transpose") == 1  # of the result, which the test wants in ONNX's order


@few
@given(
    sizes=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    stride=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    groups=st.sampled_from([1, 2, 4]),
)
def test_convolution_in_two_dimensions(
    sizes: tuple[int, int], kernel: tuple[int, int], stride: int, pads: tuple[int, ...], groups: int
) -> None:
    weights = {"w": normal(4, 4 // groups, *kernel), "b": normal(4)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[stride] * 2, pads=pads, group=groups)
    assert_converts(model_of([node], [1, 4, *sizes], weights), normal(1, 4, *sizes), channels_last=True)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_convolution_with_automatic_padding(auto_pad: str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=auto_pad, strides=[2, 2], kernel_shape=[3, 4])
    model = model_of([node], [1, 3, 8, 9], {"w": normal(5, 3, 3, 4)})
    assert_converts(model, normal(1, 3, 8, 9), channels_last=True)


@few
@given(kernel=st.integers(1, 4), stride=st.integers(1, 3), before=st.integers(0, 1), after=st.integers(0, 1))
def test_transposed_convolution(kernel: int, stride: int, before: int, after: int) -> None:
    for rank in (1, 2):
        pads = [before] * rank + [after] * rank
        node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[stride] * rank, pads=pads)
        model = model_of([node], [1, 3, *[5] * rank], {"w": normal(3, 2, *[kernel] * rank), "b": normal(2)})
        assert_converts(model, normal(1, 3, *[5] * rank), channels_last=True)


@few
@given(
    operator=st.sampled_from(["MaxPool", "AveragePool"]),
    size=st.integers(4, 9),
    kernel=st.integers(2, 4),
    stride=st.integers(1, 3),
    before=st.integers(0, 1),
    after=st.integers(0, 1),
    counted=st.booleans(),
    positive=st.booleans(),
)
def test_pooling_with_any_padding(
    *, operator: str, size: int, kernel: int, stride: int, before: int, after: int, counted: bool, positive: bool
) -> None:
    for rank in (1, 2):
        attributes: dict[str, Any] = {"count_include_pad": int(counted)} if operator == "AveragePool" else {}
        pads = [before] * rank + [after] * rank
        nodes = [helper.make_node("Relu" if positive else "Identity", ["x"], ["r"])]
        nodes += [
            helper.make_node(
                operator, ["r"], ["y"], kernel_shape=[kernel] * rank, strides=[stride] * rank, pads=pads, **attributes
            )
        ]
        assert_converts(model_of(nodes, [1, 2, *[size] * rank]), normal(1, 2, *[size] * rank), channels_last=True)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_linear_layer(transposed: int) -> None:
    weights = {"w": normal(5, 7) if transposed else normal(7, 5), "b": normal(5)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed, alpha=0.5, beta=2.0)
    assert_converts(model_of([node], [1, 7], weights), normal(1, 7))


@pytest.mark.parametrize("shape", [(1, 7), (1, 4, 7), (1, 2, 3, 7)])
def test_a_product_over_the_last_axis(shape: tuple[int, ...]) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    for channels_last in (False, True):
        assert_converts(model_of([node], shape, {"w": normal(7, 5)}), normal(*shape), channels_last=channels_last)


def test_a_product_of_two_activations() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    assert_converts(model_of(nodes, [1, 4, 6]), normal(1, 4, 6), channels_last=True)


def test_a_flattened_picture_moves_the_weights_instead_of_the_data() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("BatchNormalization", ["f", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Gemm", ["n", "w", "c"], ["y"], transB=1),
    ]
    weights = {name: abs(normal(60, seed=seed)) + 0.1 for seed, name in enumerate("sbmv")}
    model = model_of(nodes, [1, 3, 5, 4], weights | {"w": normal(6, 60), "c": normal(6)})
    assert "Transpose" not in assert_converts(model, normal(1, 3, 5, 4), channels_last=True)


@settings(max_examples=40, deadline=None)
@given(target=st.permutations([1, 2, 2, 3]), order=st.permutations([1, 2, 3]))
def test_any_reshape_of_any_arrangement(target: list[int], order: list[int]) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, *order]),
        helper.make_node("Reshape", ["t", "s"], ["r"]),
        helper.make_node("Transpose", ["r"], ["u"], perm=[0, 4, 2, 1, 3]),
        helper.make_node("Reshape", ["u", "e"], ["y"]),
    ]
    weights = {"s": np.array([1, *target]), "e": np.array([1, -1, 4])}
    assert_converts(model_of(nodes, [1, 2, 3, 2], weights), normal(1, 2, 3, 2), channels_last=True)


@pytest.mark.parametrize("opset", [9, 13])
def test_squeeze_and_unsqueeze_in_old_and_new_opsets(opset: int) -> None:
    axes = {"u": np.array([1, 4]), "s": np.array([-1, 1])} if opset >= 13 else {}
    attributes: list[dict[str, Any]] = [{}, {}] if axes else [{"axes": [1, 4]}, {"axes": [1, 4]}]
    nodes = [
        helper.make_node("Unsqueeze", ["x", *(["u"] if axes else [])], ["t"], **attributes[0]),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("Squeeze", ["r", *(["s"] if axes else [])], ["y"], **attributes[1]),
    ]
    assert_converts(model_of(nodes, [1, 3, 5], axes, opset=opset), normal(1, 3, 5), channels_last=True)


def test_concatenation_and_splitting_over_channels() -> None:
    nodes = [
        helper.make_node("Split", ["x", "parts"], ["a", "b"], axis=1),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("Concat", ["c", "a", "k"], ["y"], axis=1),
    ]
    weights = {"parts": np.array([1, 3]), "k": normal(1, 2, 5, 6)}
    assert_converts(model_of(nodes, [1, 4, 5, 6], weights), normal(1, 4, 5, 6), channels_last=True)


@pytest.mark.parametrize("opset", [9, 17])
def test_slices_in_old_and_new_opsets(opset: int) -> None:
    bounds = {"s": np.array([1, -3]), "e": np.array([9, 2**62]), "a": np.array([2, 1]), "t": np.array([2, 1])}
    if opset == 9:
        node = helper.make_node("Slice", ["x"], ["y"], starts=[-3, 1], ends=[2**31 - 1, 9], axes=[1, 2])
        bounds = {}
    else:
        node = helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])
    assert_converts(model_of([node], [1, 4, 8], bounds, opset=opset), normal(1, 4, 8), channels_last=True)


@pytest.mark.parametrize("indices", [np.array(-1), np.array([1, 2]), np.array([2, 0, 2])])
def test_choosing_along_an_axis(indices: Any) -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=2)
    assert_converts(model_of([node], [1, 4, 5], {"i": indices}), normal(1, 4, 5), channels_last=True)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_padding(mode: str) -> None:
    pads = {"p": np.array([0, 0, 1, 2, 0, 0, 2, 0])} | ({"v": np.float32(-2)} if mode == "constant" else {})
    node = helper.make_node("Pad", ["x", "p", *(["v"] if "v" in pads else [])], ["y"], mode=mode)
    assert_converts(model_of([node], [1, 3, 5, 4], pads), normal(1, 3, 5, 4), channels_last=True)


def test_prelu_has_a_slope_for_every_channel() -> None:
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    model = model_of([node], [1, 3, 5, 4], {"s": normal(3, 1, 1)})
    assert_converts(model, normal(1, 3, 5, 4), channels_last=True)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 0.5])
def test_powers(exponent: float) -> None:
    node = helper.make_node("Pow", ["x", "e"], ["y"])
    assert_converts(model_of([node], [1, 6], {"e": np.float32(exponent)}), abs(normal(1, 6)))


@pytest.mark.parametrize("opset", [11, 13])
def test_sums_in_old_and_new_opsets(opset: int) -> None:
    axes = {"a": np.array([2])} if opset >= 13 else {}
    attributes: dict[str, Any] = {} if axes else {"axes": [2]}
    node = helper.make_node("ReduceSum", ["x", *axes], ["y"], keepdims=0, **attributes)
    assert_converts(model_of([node], [1, 3, 5], axes, opset=opset), normal(1, 3, 5), channels_last=True)


def test_shapes_that_pytorch_computes_are_folded() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1]), "w": normal(24, 2)}
    kinds = assert_converts(model_of(nodes, ["batch", 4, 6], weights), normal(1, 4, 6), channels_last=True)
    assert "Transpose" not in kinds
