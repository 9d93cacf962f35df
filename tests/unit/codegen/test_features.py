"""What a model asks of the kernels: macros that only its layers decide."""

import re

import numpy as np
import pytest

from services.artifact_builder.codegen import GeneratedModel, generate
from tests.tflite_models import Model

_SAME = 0


def _convolution(
    *, width: int = 4, channels: int = 1, groups: int = 1, dilation: int = 1, bias: int = 0, activation: int = 0
) -> GeneratedModel:
    """Return a convolution of one row with a window of one pixel."""
    model = Model()
    graph = model.main
    depth = channels // groups
    weights = graph.constant(np.ones((groups, 1, 1, depth), np.int8), [0.1])
    biases = graph.constant(np.full(groups, bias, np.int32), [0.01])
    graph.outputs.append(graph.tensor((1, 1, width, groups), 1.0))
    graph.operator(
        "CONV_2D",
        [graph.input((1, 1, width, channels), 0.1), weights, biases],
        graph.outputs,
        "Conv2D",
        strideH=1,
        strideW=1,
        padding=_SAME,
        dilationHFactor=1,
        dilationWFactor=dilation,
        fusedActivationFunction=activation,
    )
    return generate(model.pack())


def _depthwise(*, height: int = 5, width: int = 5, stride: int = 1, multiplier: int = 1) -> GeneratedModel:
    """Return a depthwise convolution of one channel with a window of 3 x 3 and padding."""
    model = Model()
    graph = model.main
    weights = graph.constant(np.ones((1, 3, 3, multiplier), np.int8), [0.1])
    biases = graph.constant(np.zeros(multiplier, np.int32), [0.01])
    made = (1, -(-height // stride), -(-width // stride), multiplier)
    graph.outputs.append(graph.tensor(made, 1.0))
    graph.operator(
        "DEPTHWISE_CONV_2D",
        [graph.input((1, height, width, 1), 0.1), weights, biases],
        graph.outputs,
        "DepthwiseConv2D",
        strideH=stride,
        strideW=stride,
        padding=_SAME,
        depthMultiplier=multiplier,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    return generate(model.pack())


def _features(model: GeneratedModel) -> dict[str, int]:
    found = re.findall(r"^#define (EL_\w+) (\d+)$", model.sources["edgeloop_features.h"], re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_a_plain_convolution_asks_for_nothing() -> None:
    assert _features(_convolution()) == {
        "EL_SIZE_BITS": 8,
        "EL_NARROW_BIASES": 1,
        "EL_SHIFTS_IN_BIASES": 0,
        "EL_SHIFTS_IN_MULTIPLIERS": 1,
        "EL_ALL_FIT_FAST_STEPS": 1,
        "EL_CONV_GROUPS": 0,
        "EL_CONV_DILATION": 0,
        "EL_CONV_WINDOW": 4,
        "EL_CONV_CHANNELS": 1,
        "EL_CONV_SINGLE_PIXELS": 0,
        "EL_DEPTHWISE_MULTIPLIER": 0,
        "EL_DEPTHWISE_STRIDES": 0,
        "EL_DEPTHWISE_TILES": 0,
    }


@pytest.mark.parametrize(("width", "bits"), [(255, 8), (256, 16), ((1 << 16) - 1, 16), (1 << 16, 32)])
def test_sizes_take_the_fewest_bits_that_hold_the_largest(width: int, bits: int) -> None:
    assert _features(_convolution(width=width))["EL_SIZE_BITS"] == bits


def test_groups_and_dilations_are_told() -> None:
    assert _features(_convolution(channels=6, groups=2))["EL_CONV_GROUPS"] == 1
    assert _features(_convolution(dilation=2))["EL_CONV_DILATION"] == 1


@pytest.mark.parametrize(("channels", "values"), [(4, 4), (5, 8), (300, 300)])
def test_the_largest_window_is_told_in_whole_steps(channels: int, values: int) -> None:
    assert _features(_convolution(channels=channels))["EL_CONV_WINDOW"] == values


def test_an_output_that_is_held_to_less_than_int8_does_not_fit_the_fast_steps() -> None:
    assert _features(_convolution(activation=1))["EL_ALL_FIT_FAST_STEPS"] == 0


@pytest.mark.parametrize(("channels", "groups", "made"), [(6, 2, 1), (4, 1, 1)])
def test_the_largest_group_of_output_channels_is_told(channels: int, groups: int, made: int) -> None:
    assert _features(_convolution(channels=channels, groups=groups))["EL_CONV_CHANNELS"] == made


@pytest.mark.parametrize(("width", "worth"), [(1, 1), (99, 1), (400, 0), (401, 0)])
def test_pixels_left_of_fours_are_worth_code_of_their_own_from_a_hundredth_on(width: int, worth: int) -> None:
    assert _features(_convolution(width=width))["EL_CONV_SINGLE_PIXELS"] == worth


@pytest.mark.parametrize(
    ("shape", "asked"),
    [
        ({}, set()),
        ({"stride": 2}, {"EL_DEPTHWISE_STRIDES"}),
        ({"multiplier": 3}, {"EL_DEPTHWISE_MULTIPLIER"}),
        ({"height": 60, "width": 12}, set()),
        ({"height": 12, "width": 60}, set()),
        ({"height": 61, "width": 12}, {"EL_DEPTHWISE_TILES"}),
        ({"height": 13, "width": 13}, {"EL_DEPTHWISE_TILES"}),
        ({"height": 25, "width": 12, "stride": 2}, {"EL_DEPTHWISE_STRIDES"}),
    ],
)
def test_a_depthwise_layer_asks_for_what_is_not_plain(shape: dict[str, int], asked: set[str]) -> None:
    features = _features(_depthwise(**shape))
    assert {name for name, value in features.items() if name.startswith("EL_DEPTHWISE") and value} == asked
