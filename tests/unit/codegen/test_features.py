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
