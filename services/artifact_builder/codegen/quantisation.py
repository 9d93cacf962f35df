"""From scales to integers, with the float and double steps that TensorFlow Lite for Microcontrollers takes."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.fixed_point import Multiplier, quantise_multiplier
from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Values
from shared.events.lab import Numerics

INT8_MIN, INT8_MAX = -128, 127

_CONVERT_INT8 = (
    "Convert with full int8 quantisation: supported_ops = [TFLITE_BUILTINS_INT8], inference_input_type and "
    "inference_output_type int8, and a representative dataset"
)
_FAR = np.float32(1 << 24)
_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = 0, 1, 2, 3
_LIMITS: Mapping[int, tuple[float, float]] = {
    _NONE: (-math.inf, math.inf),
    _RELU: (0.0, math.inf),
    _RELU_N1_TO_1: (-1.0, 1.0),
    _RELU6: (0.0, 6.0),
}


def require_tflm(operator: Operator, numerics: Numerics, otherwise: str = "", because: str = "") -> None:
    """Refuse other numerics for a kernel that has TFLM's bits alone.

    Args:
        operator: what is to be computed.
        numerics: what is asked for.
        otherwise: what else its author could do.
        because: how others compute it.
    """
    if numerics is not Numerics.TFLM:
        raise operator.unsupported(
            f"its kernel has the bits of {Numerics.TFLM} alone, and {numerics} is asked for"
            + (f", where {because}" if because else ""),
            f"Generate with the numerics {Numerics.TFLM}" + (f", or {otherwise}" if otherwise else ""),
        )


def activation_tensor(operator: Operator, tensor: Tensor) -> Tensor:
    """Check that a tensor is int8 with one scale, and return it."""
    if tensor.type is not ElementType.INT8:
        raise operator.unsupported(f"{tensor.label} is {tensor.type_name}; the kernels take int8", _CONVERT_INT8)
    if len(tensor.scales) != 1:
        raise operator.unsupported(f"{tensor.label} has {len(tensor.scales)} scales instead of one", _CONVERT_INT8)
    if not INT8_MIN <= tensor.zero_point <= INT8_MAX:
        raise operator.malformed(f"{tensor.label} has the zero point {tensor.zero_point}, outside int8")
    return tensor


def weights_tensor(operator: Operator, tensor: Tensor, channels: int) -> tuple[NDArray[np.int8], tuple[float, ...]]:
    """Check that a tensor is a symmetric int8 constant; return its values and one scale per output channel."""
    if tensor.type is not ElementType.INT8:
        raise operator.unsupported(f"its weights, {tensor.label}, are {tensor.type_name}, not int8", _CONVERT_INT8)
    if tensor.data is None:
        raise operator.unsupported(
            f"its weights, {tensor.label}, are computed at run time", "Make them constants of the model"
        )
    if len(tensor.scales) not in {1, channels}:
        raise operator.malformed(f"{tensor.label} has {len(tensor.scales)} scales for {channels} output channels")
    if any(tensor.zero_points):
        raise operator.unsupported(f"{tensor.label} is not symmetric: it has a zero point", _CONVERT_INT8)
    scales = tensor.scales if len(tensor.scales) == channels else tensor.scales * channels
    return tensor.int8_values(), scales


def bias_values(operator: Operator, tensor: Tensor | None, channels: int) -> NDArray[np.int64]:
    """Return the bias, zeros where there is none."""
    if tensor is None:
        return np.zeros(channels, np.int64)
    if tensor.type is not ElementType.INT32:
        raise operator.unsupported(f"its bias, {tensor.label}, is {tensor.type_name}, not int32", _CONVERT_INT8)
    values = tensor.int32_values().reshape(-1).astype(np.int64)
    if len(values) != channels:
        raise operator.malformed(f"its bias, {tensor.label}, has {len(values)} values for {channels} channels")
    return values


def folded_bias(
    operator: Operator, bias: NDArray[np.int64], weights: NDArray[np.int8], input_zero_point: int
) -> NDArray[np.int32]:
    """Take -zero_point * sum(weights) into the bias; `weights` has the output channels first."""
    sums = weights.reshape(len(bias), -1).astype(np.int64).sum(axis=1)
    folded = bias - input_zero_point * sums
    if folded.size and np.abs(folded).max() >= 1 << 31:
        raise operator.unsupported("its bias does not fit into 32 bits", "Check the range of the layer's weights")
    result: NDArray[np.int32] = folded.astype(np.int32)
    return result


def double_product_multipliers(scales: tuple[float, ...], source: Tensor, output: Tensor) -> list[Multiplier]:
    """Return input_scale * filter_scale / output_scale, per channel, in double precision."""
    return [quantise_multiplier(source.scale * scale / output.scale) for scale in scales]


def float_product_multiplier(weights_scale: float, source: Tensor, output: Tensor) -> Multiplier:
    """Return the same, with the product rounded to float32 first, as layers with one scale do."""
    return quantise_multiplier(float(np.float32(source.scale) * np.float32(weights_scale)) / output.scale)


def fused_limits(operator: Operator) -> tuple[float, float]:
    """Return the real numbers between which the fused activation holds the output."""
    kind = operator.option("FusedActivationFunction")
    if kind not in _LIMITS:
        raise operator.unsupported(
            f"its fused activation is number {kind}; none, relu, relu6 and relu_n1_to_1 are supported",
            "Use one of them, or an activation layer of its own",
        )
    return _LIMITS[kind]


def activation_range(operator: Operator, output: Tensor) -> tuple[int, int]:
    """Return the smallest and largest output that the fused activation leaves."""
    smallest, largest = fused_limits(operator)

    def quantised(real: float) -> int:
        with np.errstate(over="ignore"):  # a tiny scale makes the limit infinitely far
            ratio = float(np.clip(np.float32(real) / np.float32(output.scale), -_FAR, _FAR))
        return output.zero_point + int(np.floor(ratio + 0.5) if ratio >= 0 else np.ceil(ratio - 0.5))

    low = INT8_MIN if math.isinf(smallest) else max(INT8_MIN, quantised(smallest))
    high = INT8_MAX if math.isinf(largest) else min(INT8_MAX, quantised(largest))
    if low > high:
        raise operator.malformed("its fused activation leaves no value")
    return low, high


def requantisation(
    multipliers: list[Multiplier], output: Tensor, limits: tuple[int, int]
) -> tuple[Mapping[str, object], Mapping[str, Values]]:
    """Return the fields and arrays of `struct el_requantisation`."""
    fields = {
        "output_zero_point": output.zero_point,
        "minimum": limits[0],
        "maximum": limits[1],
    }
    arrays: dict[str, Values] = {
        "requantisation.multiplier": np.array([m.multiplier for m in multipliers], np.int32),
        "requantisation.shift": np.array([m.shift for m in multipliers], np.int8),
    }
    return fields, arrays
