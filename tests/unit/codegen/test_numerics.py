"""The two families of numerics as the generator writes them."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.codegen import UnsupportedModelError, generate, litert
from services.artifact_builder.codegen.c_source import _literal
from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from shared.events.lab import Numerics

_int8 = st.integers(-128, 127)
_MODELS = Path(__file__).parents[2] / "data" / "models"


def _tensor(scale: float, zero_point: int = 0, size: int = 4) -> Tensor:
    return Tensor(0, "t", (1, size), ElementType.INT8, "int8", (float(np.float32(scale)),), (zero_point,), None)


def _operator(name: str, output: Tensor, **options: float) -> Operator:
    return Operator(0, name, 1, (), (output,), options)


@pytest.mark.parametrize("numerics", Numerics)
def test_the_sources_say_whose_bits_they_give(numerics: Numerics) -> None:
    model = generate((_MODELS / "cnn_1d.tflite").read_bytes(), numerics)
    assert model.numerics is numerics
    assert f"#define EL_NUMERICS_LITERT {int(numerics is Numerics.LITERT)}" in model.sources["numerics.h"]
    assert (".scale = " in model.sources["model.c"]) == (numerics is Numerics.LITERT)


def test_both_families_plan_the_same_arena_and_have_as_many_constants() -> None:
    data = (_MODELS / "grouped_2d.tflite").read_bytes()
    tflm, lite = generate(data), generate(data, Numerics.LITERT)
    assert tflm.arena_bytes == lite.arena_bytes
    assert lite.weights_bytes == tflm.weights_bytes


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_literal_reads_back_as_the_same_float(value: float) -> None:
    literal = _literal(value)
    assert re.fullmatch(r"-?\d+\.\d+f|-?\d+(\.\d+)?e[+-]\d+f", literal)
    assert np.float32(literal.removesuffix("f")) == np.float32(value)


@given(
    scales=st.tuples(*[st.floats(0.01, 1)] * 3),
    zero_points=st.tuples(*[_int8] * 3),
    values=st.tuples(_int8, _int8),
    name=st.sampled_from(["ADD", "SUB"]),
)
def test_a_sum_is_within_one_unit_of_the_real_one(
    scales: tuple[float, ...], zero_points: tuple[int, ...], values: tuple[int, int], name: str
) -> None:
    a, b, output = (_tensor(scale, zero) for scale, zero in zip(scales, zero_points, strict=True))
    fields: dict[str, Any] = dict(litert.addition(_operator(name, output), a, b))
    products = [x * fields[operand]["multiplier"] for x, operand in zip(values, "ab", strict=True)]
    total = fields["bias"] + sum(products)
    assert -(1 << 31) <= total < 1 << 31
    left, right = ((x - tensor.zero_point) * tensor.scale for x, tensor in zip(values, (a, b), strict=True))
    real = (left - right if name == "SUB" else left + right) / output.scale
    assert math.isclose(total >> fields["shift"], real, abs_tol=0.51)


@pytest.mark.parametrize(
    ("name", "source", "output", "says"),
    [
        ("ADD", 256.0, 1.0, "ratio 256; litert takes 0.000976562 to below 256"),
        ("MUL", 1e-4, 10.0, "ratio 1e-09"),
    ],
)
def test_scales_that_litert_leaves_to_other_kernels_are_refused(
    name: str, source: float, output: float, says: str
) -> None:
    lower = {"ADD": litert.addition, "MUL": litert.multiplication}[name]
    with pytest.raises(UnsupportedModelError, match=re.escape(says)) as caught:
        lower(_operator(name, _tensor(output)), _tensor(source), _tensor(source))
    assert "Choose numerics tflm" in str(caught.value)


def test_a_scale_that_litert_cannot_run_at_all_is_refused() -> None:
    output = _tensor(1e-6)
    with pytest.raises(UnsupportedModelError, match="LiteRT refuses 256 and more"):
        litert.requantisation(_operator("CONV_2D", output), _tensor(1.0), (0.001, 0.1), output)


@pytest.mark.parametrize(
    ("scale", "zero_point", "largest"), [(4.0, 0, 2), (4.0, 1, 2), (12.0, 0, 0), (12.0, 1, 2), (0.05, -128, -8)]
)
def test_the_limit_of_relu6_is_rounded_together_with_the_zero_point(
    scale: float, zero_point: int, largest: int
) -> None:
    relu6 = 3
    output = _tensor(scale, zero_point)
    operator = _operator("ADD", output, FusedActivationFunction=relu6)
    assert litert.activation_range(operator, output) == (zero_point, largest)
