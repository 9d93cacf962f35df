"""LiteRT's arithmetic where it is not that of TensorFlow Lite for Microcontrollers.

LiteRT's default interpreter hands what it can to XNNPACK, which scales int32 sums in float32 and rounds once, ties to
even. Everything here was measured against ai-edge-litert (docs/adr/0009-two-numerics.md has the version and the table);
each step is in the precision, and in the order, that gives its bits.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.quantisation import INT8_MAX, INT8_MIN, fused_limits

_MULTIPLIER_BITS = 20
"""XNNPACK's addition: the larger of both multipliers has so many bits behind its leading one."""
_FRACTION_BITS = 8
"""XNNPACK's conversions and leaky relu: multipliers have so many fractional bits."""
SUMS = frozenset({"MEAN", "SUM"})
"""Reductions that XNNPACK computes as one scaled sum."""
_OTHERWISE = "Choose numerics tflm for this model, or convert it again with other ranges"


def requantisation_scales(
    operator: Operator, source: Tensor, scales: tuple[float, ...], output: Tensor
) -> NDArray[np.float32]:
    """Return input_scale * filter_scale / output_scale per channel, each step rounded to float32."""
    products = np.float32(source.scale) * np.array(scales, np.float32) / np.float32(output.scale)
    if not (products < 256).all():
        raise operator.unsupported(f"it multiplies sums by {products.max():g}; LiteRT refuses 256 and more", _OTHERWISE)
    return products


def requantisation(
    operator: Operator, source: Tensor, scales: tuple[float, ...], output: Tensor
) -> tuple[dict[str, object], dict[str, NDArray[np.float32]]]:
    """Return the fields and arrays of `struct el_requantisation`."""
    fields = _output_fields(operator, output)
    return fields, {"requantisation.scale": requantisation_scales(operator, source, scales, output)}


def activation_range(operator: Operator, output: Tensor) -> tuple[int, int]:
    """Return the smallest and largest output: the limits are rounded together with the zero point, ties to even."""
    low, high = fused_limits(operator)

    def quantised(real: float) -> int:
        if math.isinf(real):
            return INT8_MAX if real > 0 else INT8_MIN
        return _nearest(np.float32(real) / np.float32(output.scale) + np.float32(output.zero_point))

    return quantised(low), quantised(high)


def addition(operator: Operator, a: Tensor, b: Tensor) -> dict[str, object]:
    """Return the fields of `struct el_litert_add`, for ADD and SUB."""
    output = operator.output
    ratios = [np.float32(tensor.scale) / np.float32(output.scale) for tensor in (a, b)]
    _require_ratios(operator, ratios, 2.0**-10, 256)
    shift = _MULTIPLIER_BITS - (math.frexp(max(ratios))[1] - 1)
    by_a, by_b = (round(math.ldexp(float(ratio), shift)) for ratio in ratios)
    if operator.name == "SUB":
        by_b = -by_b
    return {
        "size": output.size,
        "a": {"size": a.size, "multiplier": by_a},
        "b": {"size": b.size, "multiplier": by_b},
        "bias": (1 << (shift - 1)) - by_a * a.zero_point - by_b * b.zero_point,
        "shift": shift,
        **_output_fields(operator, output),
    }


def multiplication(operator: Operator, a: Tensor, b: Tensor) -> dict[str, object]:
    """Return the fields of `struct el_litert_mul`."""
    output = operator.output
    scale = np.float32(a.scale) * np.float32(b.scale) / np.float32(output.scale)
    _require_ratios(operator, [scale], 2.0**-16, 256)
    return {
        "size": output.size,
        "a": {"size": a.size, "zero_point": a.zero_point},
        "b": {"size": b.size, "zero_point": b.zero_point},
        "scale": float(scale),
        **_output_fields(operator, output),
    }


def sum_or_mean(operator: Operator, source: Tensor, count: int) -> dict[str, object]:
    """Return what `struct el_litert_mean` has beside the dimensions, for one of `SUMS`."""
    output = operator.output
    scale = np.float32(source.scale) / np.float32(output.scale)
    if operator.name == "MEAN":
        scale *= np.float32(1) / np.float32(count)
    bias = np.float32(output.zero_point) - np.float32(source.zero_point * count) * scale
    return {"scale": float(scale), "bias": float(bias)}


def requantised(operator: Operator, source: Tensor, value: int) -> int:
    """Return what QUANTIZE makes of an int8."""
    ratio = np.float32(source.scale) / np.float32(operator.output.scale)
    if not 2.0**-_FRACTION_BITS <= ratio <= 128:
        raise operator.unsupported(f"its scales have the ratio {ratio:g}; litert takes 1/256 to 128", _OTHERWISE)
    return _scaled(value - source.zero_point, ratio, operator.output)


def quantisation_of_floats(operator: Operator, source: Tensor) -> dict[str, object]:
    """Return the fields of `struct el_litert_quantise`, for float32 to int8."""
    output = operator.output
    if output.type is not ElementType.INT8:
        raise operator.unsupported(f"it makes {output.type_name} of float32; litert makes int8", _OTHERWISE)
    factor = np.float32(1) / np.float32(output.scale)
    return {"size": source.size, "factor": float(factor), "zero_point": output.zero_point}


def require_equal_scales(operator: Operator, source: Tensor) -> None:
    """Refuse a change of type that changes the scale too: only moves of the zero point were found to be TFLM's."""
    if source.scale != operator.output.scale:
        raise operator.unsupported(
            f"it makes {operator.output.type_name} of {source.type_name} with another scale", _OTHERWISE
        )


def lookup_function(operator: Operator, source: Tensor) -> Callable[[int], int] | None:
    """Return the function of one value that an operator is, None where it is that of TFLM."""
    make = _LOOKUPS.get(operator.name)
    return make(operator, source) if make else None


def _output_fields(operator: Operator, output: Tensor) -> dict[str, object]:
    low, high = activation_range(operator, output)
    return {
        "output_zero_point": output.zero_point,
        "minimum": low,
        "maximum": high,
    }


def _require_ratios(operator: Operator, ratios: list[np.float32], least: float, limit: float) -> None:
    # Outside, LiteRT falls back to kernels of its own, whose bits are those of neither family.
    for ratio in ratios:
        if not least <= ratio < limit:
            raise operator.unsupported(
                f"its scales have the ratio {ratio:g}; litert takes {least:g} to below {limit:g}", _OTHERWISE
            )


def _clamp(value: int) -> int:
    return min(max(value, INT8_MIN), INT8_MAX)


def _nearest(value: np.float32) -> int:
    return round(min(max(float(value), INT8_MIN), INT8_MAX))


def _scaled(value: int, ratio: np.float32, output: Tensor) -> int:
    """Multiply by a ratio of 8 fractional bits; halves are rounded up."""
    multiplier = round(float(ratio) * (1 << _FRACTION_BITS))
    half = 1 << (_FRACTION_BITS - 1)
    return _clamp((value * multiplier + half >> _FRACTION_BITS) + output.zero_point)


def _leaky_relu(operator: Operator, source: Tensor) -> Callable[[int], int] | None:
    identity = np.float32(source.scale) / np.float32(operator.output.scale)
    slope = identity * np.float32(operator.options.get("Alpha", 0.0))
    least = 2.0**-_FRACTION_BITS
    if not (least <= identity <= 128 and least <= slope <= 128):
        return None  # LiteRT's own kernel takes it, with TFLM's arithmetic

    def apply(value: int) -> int:
        centred = value - source.zero_point
        return _scaled(centred, identity if centred >= 0 else slope, operator.output)

    return apply


def _of_real(function: Callable[[float], float]) -> Callable[[Operator, Tensor], Callable[[int], int]]:
    """Return the maker of tables of a real function."""

    def make(operator: Operator, source: Tensor) -> Callable[[int], int]:
        output = operator.output

        def apply(value: int) -> int:
            real = np.float32(value - source.zero_point) * np.float32(source.scale)
            result = np.float32(function(float(real)))
            return _nearest(result / np.float32(output.scale) + np.float32(output.zero_point))

        return apply

    return make


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(min(-value, 80.0)))


_LOOKUPS: Mapping[str, Callable[[Operator, Tensor], Callable[[int], int] | None]] = {
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _of_real(_logistic),
    "TANH": _of_real(math.tanh),
}
