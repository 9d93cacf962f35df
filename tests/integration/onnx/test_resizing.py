"""Resize against onnxruntime, in every form that boards have; the others are refused by name."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from services.artifact_builder.inputs.onnx.loading import load_onnx
from services.artifact_builder.inputs.problems import ModelError
from tests.integration.onnx.conftest import Weights, assert_converts, model_of

_PYTORCH = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _window(*shape: int) -> Any:
    return np.random.default_rng(4).normal(0, 1, shape).astype(np.float32)


def _model(shape: tuple[int, ...], weights: Weights, **attributes: Any) -> Any:
    inputs = ["x", "", "scales"] if "scales" in weights else ["x", "", "", "sizes"]
    return model_of([helper.make_node("Resize", inputs, ["y"], name="up", **attributes)], shape, weights)


def _sizes(*sizes: int) -> Weights:
    return {"sizes": np.array(sizes, np.int64)}


def _scales(*scales: float) -> Weights:
    return {"scales": np.array(scales, np.float32)}


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        *(("nearest", how) for how in ("half_pixel", "pytorch_half_pixel", "asymmetric")),
        *(("linear", how) for how in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")),
    ],
)
@pytest.mark.parametrize("weights", [_scales(1, 1, 2, 3), _sizes(1, 3, 10, 12)])
def test_a_picture_becomes_larger(mode: str, how: str, weights: Weights) -> None:
    rounding = {"nearest_mode": "floor" if how == "asymmetric" else "round_prefer_floor"}
    model = _model((1, 3, 5, 4), weights, mode=mode, coordinate_transformation_mode=how, **rounding)
    made = assert_converts(model, _window(1, 3, 5, 4), channels_last=True)
    assert ("ResizeNearestNeighbor" if mode == "nearest" else "ResizeBilinear") in made


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.tuples(*[st.integers(1, 9)] * 4), mode=st.sampled_from(["nearest", "linear"]))
def test_any_sizes(sizes: tuple[int, int, int, int], mode: str) -> None:
    how = _PYTORCH if mode == "nearest" else {"coordinate_transformation_mode": "half_pixel"}
    model = _model((1, 2, *sizes[:2]), _sizes(1, 2, *sizes[2:]), mode=mode, **how)
    assert_converts(model, _window(1, 2, *sizes[:2]))


def test_a_series_becomes_longer() -> None:
    assert_converts(_model((1, 3, 5), _scales(1, 1, 4), mode="nearest", **_PYTORCH), _window(1, 3, 5))


@pytest.mark.parametrize(
    ("weights", "attributes", "says"),
    [
        (_scales(1, 1, 2, 2), {"mode": "cubic"}, "its mode is cubic with half_pixel"),
        (_scales(1, 1, 2, 2), {"mode": "linear", "antialias": 1}, "or smooths"),
        (_scales(1, 2, 2, 2), {}, r"makes \[1, 6, 10, 8\] of \[1, 3, 5, 4\]"),
        (_scales(1, 1, 1.5, 1.5), {"mode": "linear"}, "gives no whole sizes"),
        (_sizes(1, 3, 3, 3), {}, "from 5 to 3 it takes other pixels"),
        (_sizes(1, 3, 10, 12), {"coordinate_transformation_mode": "align_corners"}, "other pixels, by align_corners"),
    ],
)
def test_another_form_is_refused_by_name(weights: Weights, attributes: dict[str, Any], says: str) -> None:
    node = helper.make_node(
        "Resize", ["x", "", "scales"] if "scales" in weights else ["x", "", "", "sizes"], ["y"], name="up", **attributes
    )
    model = load_onnx(model_of([node], (1, 3, 5, 4), weights, opset=18).SerializeToString(), (5, 4, 3))
    with pytest.raises(ModelError, match=rf"\(up\), Resize .*{says}.* Next: "):
        tf.function(model.function, autograph=False).get_concrete_function(tf.TensorSpec([1, 5, 4, 3]))


def test_a_hostile_size_that_is_computed_is_refused_before_anything_is_allocated() -> None:
    weights = {"some": np.array([1, 3, 4000, 400], np.int64), "times": np.array([1, 1, 1, 1000], np.int64)}
    nodes = [
        helper.make_node("Mul", ["some", "times"], ["sizes"]),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
    ]
    with pytest.raises(ModelError, match=r"y has the shape \[1, 3, 4000, 400000\]; allowed are 16,777,216 elements"):
        load_onnx(model_of(nodes, (1, 3, 5, 4), weights).SerializeToString(), (5, 4, 3))
